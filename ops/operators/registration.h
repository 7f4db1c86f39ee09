// Registering CPU operators over those that the installed Caffe2 registers.
#pragma once

#include <caffe2/core/operator.h>

// Makes `OperatorClass` the CPU implementation of the operator `name`, whichever of the two
// libraries is loaded first. Schema and gradient maker of `name` stay as registered. To be used
// inside `namespace caffe2`.
#define DETECTRON_EXT_OVERRIDE_CPU_OPERATOR(name, ...)                                   \
  C10_REGISTER_CREATOR_WITH_PRIORITY(CPUOperatorRegistry, name, c10::REGISTRY_PREFERRED, \
                                     RegistererCPUOperatorRegistry::DefaultCreator<__VA_ARGS__>)
