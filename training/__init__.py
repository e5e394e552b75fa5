"""How the bundled model `alora-tiny` and its three intrinsics are made, from nothing but text and seeds."""
