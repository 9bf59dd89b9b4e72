package bench;

import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Makes a topic and fills it: Load BROKERS TOPIC PARTITIONS COUNT. Order n goes to partition n % PARTITIONS, without a key. */
public class Load {
  public static void main(String[] a) throws Exception {
    int partitions = Integer.parseInt(a[2]);
    long count = Long.parseLong(a[3]);
    Properties p = new Properties();
    p.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, a[0]);
    try (Admin admin = Admin.create(p)) {
      admin.createTopics(List.of(new NewTopic(a[1], partitions, (short) 1).configs(Map.of("retention.ms", "-1")))).all().get();
    }
    p.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
    p.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
    p.put(ProducerConfig.BATCH_SIZE_CONFIG, 256 << 10);
    p.put(ProducerConfig.LINGER_MS_CONFIG, 20);
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p)) {
      for (long n = 0; n < count; n++)
        producer.send(
            new ProducerRecord<>(a[1], (int) (n % partitions), null, new Orders(n).json(1_700_000_000_000_000L + n * 100)),
            (done, error) -> { if (error != null) { error.printStackTrace(); System.exit(1); } });
    }
  }
}
