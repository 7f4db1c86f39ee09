// Registers CPU operators in place of those that the installed Caffe2 registers.
#pragma once

#include <caffe2/core/operator.h>

// Makes a class the CPU implementation of the operator `name`, whichever library is loaded first.
// The schema and gradient maker of `name` stay those that are registered. Use it inside `namespace
// caffe2`.
#define DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(name, ...)                                   \
  C10_REGISTER_CREATOR_WITH_PRIORITY(CPUOperatorRegistry, name, c10::REGISTRY_PREFERRED, \
                                     RegistererCPUOperatorRegistry::DefaultCreator<__VA_ARGS__>)
