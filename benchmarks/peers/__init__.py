"""How fast we are beside what people use today: several contenders, the same works, one machine, one run."""
