// The headers of Caffe2 that every operator includes. The build compiles them once, and GCC puts them
// before each operator's source. A source still includes what it uses. There is no "#pragma once":
// GCC warns about it in a header that is compiled by itself.
#include <caffe2/core/operator.h>
