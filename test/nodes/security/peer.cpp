// One end of a topic, with a node's enclave or with none: what DDS Security lets it say, and what it is told.
//
//   peer read|write NAME DOMAIN TOPIC TYPE SECONDS [ENCLAVE]
//
// TOPIC and TYPE are names on the wire (rt/vla/estop, std_msgs::msg::dds_::Bool_), ENCLAVE is a folder of SROS2.
// A writer sends NAME until a reader has acknowledged it, a reader counts by name what it gets; both end when their
// input is closed, or after SECONDS, and print one line of JSON. Nothing leaves the loopback interface.
// Licensed under the Apache License, Version 2.0, as the whole package.
//
// The message is a sequence of octets whatever TYPE says: access is granted by the name of a topic, so nothing depends
// on the content. Quality of service is that of a robot command: reliable, volatile.

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/log/Log.hpp>
#include <fastdds/dds/log/StdoutErrConsumer.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/Topic.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>
#include <fastrtps/config.h>
#include <fastrtps/utils/IPLocator.h>

#if !HAVE_SECURITY
#error "this Fast DDS is built without security"
#endif

using namespace eprosima::fastdds::dds;
using eprosima::fastrtps::Time_t;
using eprosima::fastrtps::rtps::InstanceHandle_t;
using eprosima::fastrtps::rtps::IPLocator;
using eprosima::fastrtps::rtps::Locator_t;
using eprosima::fastrtps::rtps::SerializedPayload_t;
using Clock = std::chrono::steady_clock;

// Processes of one domain on this machine that can find each other.
constexpr uint32_t kProcesses = 32;
constexpr uint32_t kLargest = 256;  // bytes of a name
constexpr int kPeriod = 50;         // ms between two samples

// A std::string as CDR writes sequence<octet>: representation, length, bytes.
class Octets : public TopicDataType
{
public:
  explicit Octets(const std::string & type)
  {
    setName(type.c_str());
    m_typeSize = 8 + kLargest;
    auto_fill_type_object(false);
    auto_fill_type_information(false);
  }

  bool serialize(void * data, SerializedPayload_t * payload) override
  {
    const auto & text = *static_cast<std::string *>(data);
    const auto size = static_cast<uint32_t>(text.size());
    const unsigned char little_endian[] = {0, 1, 0, 0};
    if (payload->max_size < 8 + size) {
      return false;
    }
    std::memcpy(payload->data, little_endian, 4);
    std::memcpy(payload->data + 4, &size, 4);
    std::memcpy(payload->data + 8, text.data(), size);
    payload->encapsulation = CDR_LE;
    payload->length = 8 + size;
    return true;
  }

  bool deserialize(SerializedPayload_t * payload, void * data) override
  {
    uint32_t size = 0;
    if (payload->length < 8) {
      return false;
    }
    std::memcpy(&size, payload->data + 4, 4);
    if (size > payload->length - 8) {
      return false;
    }
    static_cast<std::string *>(data)->assign(reinterpret_cast<char *>(payload->data) + 8, size);
    return true;
  }

  std::function<uint32_t()> getSerializedSizeProvider(void * data) override
  {
    return [data] {return static_cast<uint32_t>(8 + static_cast<std::string *>(data)->size());};
  }

  void * createData() override {return new std::string();}
  void deleteData(void * data) override {delete static_cast<std::string *>(data);}
  bool getKey(void *, InstanceHandle_t *, bool) override {return false;}
};

// The properties that rmw_fastrtps sets from the same files.
void secure(DomainParticipantQos & qos, const std::string & enclave)
{
  auto set = [&qos](const std::string & name, const std::string & value) {
      qos.properties().properties().emplace_back("dds.sec." + name, value);
    };
  const std::string file = "file://" + enclave + "/";
  set("auth.plugin", "builtin.PKI-DH");
  set("auth.builtin.PKI-DH.identity_ca", file + "identity_ca.cert.pem");
  set("auth.builtin.PKI-DH.identity_certificate", file + "cert.pem");
  set("auth.builtin.PKI-DH.private_key", file + "key.pem");
  set("access.plugin", "builtin.Access-Permissions");
  set("access.builtin.Access-Permissions.permissions_ca", file + "permissions_ca.cert.pem");
  set("access.builtin.Access-Permissions.governance", file + "governance.p7s");
  set("access.builtin.Access-Permissions.permissions", file + "permissions.p7s");
  set("crypto.plugin", "builtin.AES-GCM-GMAC");
}

void keep_to_loopback(DomainParticipantQos & qos)
{
  auto udp = std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>();
  udp->interfaceWhiteList = {"127.0.0.1"};
  udp->maxInitialPeersRange = kProcesses;
  qos.transport().use_builtin_transports = false;
  qos.transport().user_transports = {udp};
  Locator_t local;
  IPLocator::setIPv4(local, 127, 0, 0, 1);
  qos.wire_protocol().builtin.initialPeersList.push_back(local);
  // Given, or discovery would be multicast.
  qos.wire_protocol().builtin.metatrafficUnicastLocatorList.push_back(local);
  // Every 100 ms as long as anybody waits: a busy machine may lose the first few.
  qos.wire_protocol().builtin.discovery_config.initial_announcements.count = 300;
}

// Standard output is for the line of JSON.
void log_to_standard_error()
{
  auto consumer = std::make_unique<StdoutErrConsumer>();
  consumer->stderr_threshold(Log::Kind::Warning);
  Log::ClearConsumers();
  Log::RegisterConsumer(std::move(consumer));
}

bool input_closed()
{
  pollfd input{STDIN_FILENO, POLLIN, 0};
  char ignored;
  return poll(&input, 1, kPeriod) > 0 && read(STDIN_FILENO, &ignored, 1) <= 0;
}

int main(int argc, char ** argv)
{
  if (argc < 7 || argc > 8 || std::strlen(argv[2]) > kLargest) {
    std::cerr << "peer read|write NAME DOMAIN TOPIC TYPE SECONDS [ENCLAVE]" << std::endl;
    return 2;
  }
  const bool writes = argv[1] == std::string("write");
  std::string name = argv[2];
  const auto end = Clock::now() + std::chrono::milliseconds(static_cast<int>(1000 * std::stod(argv[6])));

  log_to_standard_error();
  DomainParticipantQos qos;
  qos.name(name);
  keep_to_loopback(qos);
  if (argc == 8) {
    secure(qos, argv[7]);
  }
  const char * refused = nullptr;
  int matched = 0;
  bool acknowledged = false;
  std::map<std::string, int> heard;

  auto * factory = DomainParticipantFactory::get_instance();
  auto * participant = factory->create_participant(std::stoul(argv[3]), qos);
  DataWriter * writer = nullptr;
  DataReader * reader = nullptr;
  if (participant == nullptr) {
    refused = "participant";
  } else {
    TypeSupport(new Octets(argv[5])).register_type(participant);
    auto * topic = participant->create_topic(argv[4], argv[5], TOPIC_QOS_DEFAULT);
    if (writes) {
      DataWriterQos asked = DATAWRITER_QOS_DEFAULT;
      asked.reliability().kind = RELIABLE_RELIABILITY_QOS;
      asked.durability().kind = VOLATILE_DURABILITY_QOS;
      writer = participant->create_publisher(PUBLISHER_QOS_DEFAULT)->create_datawriter(topic, asked);
      refused = writer ? nullptr : "writer";
    } else {
      DataReaderQos asked = DATAREADER_QOS_DEFAULT;
      asked.reliability().kind = RELIABLE_RELIABILITY_QOS;
      asked.durability().kind = VOLATILE_DURABILITY_QOS;
      reader = participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT)->create_datareader(topic, asked);
      refused = reader ? nullptr : "reader";
    }
  }

  for (bool last = false; !refused && !last && !acknowledged;) {
    last = input_closed() || Clock::now() >= end;
    if (writer) {
      PublicationMatchedStatus status;
      writer->get_publication_matched_status(status);
      matched = status.total_count;
      writer->write(&name);
      // With no reader there is nothing to wait for, which is no acknowledgement.
      const Time_t patience(0, 1000000 * kPeriod);
      acknowledged = matched > 0 && writer->wait_for_acknowledgments(patience) == ReturnCode_t::RETCODE_OK;
    } else {
      SubscriptionMatchedStatus status;
      reader->get_subscription_matched_status(status);
      matched = status.total_count;
      std::string text;
      SampleInfo info;
      while (reader->take_next_sample(&text, &info) == ReturnCode_t::RETCODE_OK) {
        heard[text] += info.valid_data;
      }
    }
  }

  std::cout << "{\"refused\": " << (refused ? "\"" + std::string(refused) + "\"" : "null")
            << ", \"matched\": " << matched
            << ", \"acknowledged\": " << std::boolalpha << acknowledged << ", \"heard\": {";
  for (auto item = heard.begin(); item != heard.end(); ++item) {
    std::cout << (item == heard.begin() ? "" : ", ") << '"' << item->first << "\": " << item->second;
  }
  std::cout << "}}" << std::endl;
  if (participant) {
    participant->delete_contained_entities();
    factory->delete_participant(participant);
  }
  Log::Flush();
  return 0;
}
