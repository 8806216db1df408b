// What a thief of a node's key would change in his Fast DDS; loaded before it. His participant asks nobody whether it
// may write a topic. What the others let him say is theirs to decide.
// Licensed under the Apache License, Version 2.0, as the whole package.

#include <cstdint>
#include <string>
#include <vector>

namespace eprosima::fastrtps::rtps::security
{

class Handle;
class SecurityException;

// Of the library's class only the name counts: it is what the dynamic loader looks for.
struct Permissions
{
  bool check_create_datawriter(
    const Handle &, uint32_t domain, const std::string & topic, const std::vector<std::string> & partitions,
    SecurityException &);
};

bool Permissions::check_create_datawriter(
  const Handle &, uint32_t, const std::string &, const std::vector<std::string> &, SecurityException &)
{
  return true;
}

}  // namespace eprosima::fastrtps::rtps::security
