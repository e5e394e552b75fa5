// All of alora_cpp.
#pragma once

#include "alora/adapter.hpp"
#include "alora/branch.hpp"
#include "alora/context.hpp"
#include "alora/device.hpp"
#include "alora/error.hpp"
#include "alora/generation.hpp"
#include "alora/identity.hpp"
#include "alora/log.hpp"
#include "alora/model.hpp"
#include "alora/processor.hpp"
#include "alora/scoring.hpp"
