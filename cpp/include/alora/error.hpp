// Everything that goes wrong is one of these. Each message says what was found, what was expected and what to do.
#pragma once

#include "alora/export.h"

#include <stdexcept>
#include <string>

namespace alora {

class ALORA_EXCEPTION AloraError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// A model file that cannot be loaded.
class ALORA_EXCEPTION ModelLoadError : public AloraError {
public:
    using AloraError::AloraError;
};

// An adapter file that cannot be loaded, or used where it was asked to be.
class ALORA_EXCEPTION AdapterError : public AloraError {
public:
    using AloraError::AloraError;
};

// An adapter made for another base model.
class ALORA_EXCEPTION AdapterMismatchError : public AdapterError {
public:
    using AdapterError::AdapterError;
};

// The adapter's invocation tokens are not in the prompt.
class ALORA_EXCEPTION InvocationNotFoundError : public AdapterError {
public:
    using AdapterError::AdapterError;
};

// No free KV cells, or no free branch.
class ALORA_EXCEPTION ContextFullError : public AloraError {
public:
    using AloraError::AloraError;
};

// A position that the branch does not have.
class ALORA_EXCEPTION PositionError : public AloraError {
public:
    using AloraError::AloraError;
};

// A token that the vocabulary does not have.
class ALORA_EXCEPTION TokenError : public AloraError {
public:
    using AloraError::AloraError;
};

// An option or argument outside what it may be.
class ALORA_EXCEPTION ArgumentError : public AloraError {
public:
    using AloraError::AloraError;
};

// A branch, context or model that was closed.
class ALORA_EXCEPTION ClosedError : public AloraError {
public:
    using AloraError::AloraError;
};

// The work was cancelled, from another thread or by a callback.
class ALORA_EXCEPTION Cancelled : public AloraError {
public:
    using AloraError::AloraError;
};

// The compute backend failed.
class ALORA_EXCEPTION BackendError : public AloraError {
public:
    using AloraError::AloraError;
};

} // namespace alora
