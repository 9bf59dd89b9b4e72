package bench;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Makes two topics, writes orders into the one at a steady rate with the time in `ts` (microseconds), and reads the other
 * as a read_committed reader does: Live BROKERS IN OUT PARTITIONS RATE SECONDS WARM. Prints "ready" when the topics are
 * there, and at the end "count p50 p99 max" in milliseconds, from the producer's stamp to the arrival, of what arrived
 * after the first WARM seconds, and how many are missing.
 */
public class Live {
  public static void main(String[] a) throws Exception {
    int partitions = Integer.parseInt(a[3]), rate = Integer.parseInt(a[4]), seconds = Integer.parseInt(a[5]), warm = Integer.parseInt(a[6]);
    Properties p = new Properties();
    p.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, a[0]);
    try (Admin admin = Admin.create(p)) {
      admin.createTopics(List.of(new NewTopic(a[1], partitions, (short) 1), new NewTopic(a[2], partitions, (short) 1))).all().get();
    }
    int total = rate * (warm + seconds);
    double[] found = new double[total];
    int[] count = {0, 0};  // measured, seen
    boolean[] over = {false};
    long begin = System.nanoTime();
    Thread reader = new Thread(() -> {
      Properties c = new Properties();
      c.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, a[0]);
      c.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
      c.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
      c.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
      c.put(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, 5);
      List<TopicPartition> all = IntStream.range(0, partitions).mapToObj(n -> new TopicPartition(a[2], n)).toList();
      try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(c)) {
        consumer.assign(all);
        consumer.seekToBeginning(all);
        while (!over[0])
          for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(20))) {
            long now = System.currentTimeMillis() * 1000;
            String value = new String(record.value(), StandardCharsets.UTF_8);
            int at = value.indexOf("\"ts\":") + 5, end = at;
            while (Character.isDigit(value.charAt(end))) end++;
            count[1]++;
            if (System.nanoTime() - begin > warm * 1_000_000_000L) found[count[0]++] = (now - Long.parseLong(value, at, end, 10)) / 1000.0;
          }
      }
    });
    reader.start();
    p.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
    p.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class);
    p.put(ProducerConfig.LINGER_MS_CONFIG, 2);
    int kept = 0;
    System.out.println("ready");
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p)) {
      for (int n = 0; n < total; ) {
        int due = (int) Math.min(total, (System.nanoTime() - begin) / 1e9 * rate);
        for (; n < due; n++) {
          Orders order = new Orders(n);
          if (order.kept()) kept++;
          producer.send(new ProducerRecord<>(a[1], n % partitions, null, order.json(System.currentTimeMillis() * 1000)));
        }
        Thread.sleep(2);
      }
    }
    for (int wait = 0; wait < 200 && count[1] < kept; wait++) Thread.sleep(50);
    over[0] = true;
    reader.join();
    double[] sorted = Arrays.copyOf(found, count[0]);
    Arrays.sort(sorted);
    System.out.printf("%d %.1f %.1f %.1f %d%n", sorted.length, sorted[sorted.length / 2], sorted[(int) (sorted.length * 0.99)], sorted[sorted.length - 1], kept - count[1]);
    try (Admin admin = Admin.create(p)) {
      admin.deleteTopics(List.of(a[1], a[2])).all().get();
    }
  }
}
