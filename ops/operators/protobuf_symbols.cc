// Two members of protobuf's templates. Caffe2's headers call them, but the torch package does not
// export them.
#include <google/protobuf/repeated_field.h>

template const std::string& google::protobuf::RepeatedPtrField<std::string>::Get(int) const;
template int google::protobuf::RepeatedPtrField<std::string>::size() const;
