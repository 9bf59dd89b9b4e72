package bench;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;

/**
 * Makes a topic and sees it fill: Watch BROKERS TOPIC PARTITIONS COUNT SETTLE_MS. Prints "ready", and a line
 * "EPOCH_MS OFFSETS" for every change of what a read_committed reader may see (looked at every 25 ms); ends when that is
 * as many records at least as a correct pipeline makes of COUNT orders, nothing is open, and it has not moved for SETTLE_MS.
 */
public class Watch {
  public static void main(String[] a) throws Exception {
    int partitions = Integer.parseInt(a[2]);
    long count = Long.parseLong(a[3]), settle = Long.parseLong(a[4]), expected = 0;
    for (long n = 0; n < count; n++) if (new Orders(n).kept()) expected++;
    Properties p = new Properties();
    p.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, a[0]);
    try (Admin admin = Admin.create(p)) {
      admin.createTopics(List.of(new NewTopic(a[1], partitions, (short) 1))).all().get();
      while (true) {  // a new topic needs a moment until its leaders answer
        try {
          offsets(admin, a[1], partitions, IsolationLevel.READ_COMMITTED);
          break;
        } catch (Exception notYet) {
          Thread.sleep(50);
        }
      }
      System.out.println("ready");
      long seen = 0, moved = System.currentTimeMillis();
      while (true) {
        long visible = offsets(admin, a[1], partitions, IsolationLevel.READ_COMMITTED), now = System.currentTimeMillis();
        if (visible != seen) {
          seen = visible;
          moved = now;
          System.out.println(now + " " + visible);
        } else if (visible >= expected && now - moved > settle
            && visible == offsets(admin, a[1], partitions, IsolationLevel.READ_UNCOMMITTED)) {
          return;
        }
        Thread.sleep(25);
      }
    }
  }

  static long offsets(Admin admin, String topic, int partitions, IsolationLevel level) throws Exception {
    Map<TopicPartition, OffsetSpec> wanted = IntStream.range(0, partitions).boxed()
        .collect(Collectors.toMap(n -> new TopicPartition(topic, n), n -> OffsetSpec.latest()));
    long sum = 0;
    for (var found : admin.listOffsets(new HashMap<>(wanted), new ListOffsetsOptions(level)).all().get().values())
      sum += found.offset();
    return sum;
  }
}
