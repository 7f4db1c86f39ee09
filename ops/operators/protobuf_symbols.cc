// Two members of protobuf's templates that Caffe2's headers call and the torch package does not
// export.
#include <google/protobuf/repeated_field.h>

template const std::string& google::protobuf::RepeatedPtrField<std::string>::Get(int) const;
template int google::protobuf::RepeatedPtrField<std::string>::size() const;
