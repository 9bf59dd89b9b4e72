package bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.BitSet;
import java.util.List;
import java.util.Properties;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic as a read_committed reader does and compares each record with the order it was made from:
 * Check BROKERS TOPIC PARTITIONS COUNT. Prints "records missing duplicates wrong"; deletes the topic.
 */
public class Check {
  public static void main(String[] a) throws Exception {
    int partitions = Integer.parseInt(a[2]);
    int count = Integer.parseInt(a[3]);
    Properties p = new Properties();
    p.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, a[0]);
    p.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
    p.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    p.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    p.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 20_000);
    p.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 8 << 20);
    List<TopicPartition> all = IntStream.range(0, partitions).mapToObj(n -> new TopicPartition(a[1], n)).toList();
    ObjectMapper json = new ObjectMapper();
    BitSet seen = new BitSet(count);
    long records = 0, duplicates = 0, wrong = 0;
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p)) {
      consumer.assign(all);
      consumer.seekToBeginning(all);
      var ends = consumer.endOffsets(all);
      while (all.stream().anyMatch(part -> consumer.position(part) < ends.get(part)))
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          records++;
          JsonNode order = json.readTree(record.value());
          int number = (int) Long.parseLong(order.get("order_id").asText().substring(24), 16);
          if (seen.get(number)) duplicates++;
          seen.set(number);
          if (!right(record, order, new Orders(number))) wrong++;
        }
    }
    long missing = 0;
    for (int n = 0; n < count; n++) if (new Orders(n).kept() && !seen.get(n)) missing++;
    System.out.println(records + " " + missing + " " + duplicates + " " + wrong);
    try (Admin admin = Admin.create(p)) {
      admin.deleteTopics(List.of(a[1])).all().get();
    }
  }

  private static boolean right(ConsumerRecord<byte[], byte[]> record, JsonNode found, Orders order) {
    String key = record.key() == null ? "" : new String(record.key(), StandardCharsets.UTF_8);
    return order.kept()
        && key.equals(Long.toString(order.customer))
        && found.size() == 7
        && found.get("order_id").asText().startsWith(String.format("%08x-", order.noise))
        && found.get("customer_id").asLong() == order.customer
        && found.get("country").asText().equals(order.country)
        && Math.round(found.get("amount").asDouble() * 100) == order.cents
        && found.get("quantity").asInt() == order.quantity
        && Math.abs(found.get("total").asDouble() * 100 - order.total()) < 0.01
        && found.get("ts").asLong() == 1_700_000_000_000_000L + order.number * 100;
  }
}
