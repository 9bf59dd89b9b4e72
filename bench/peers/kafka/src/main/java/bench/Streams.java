package bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/** The peer: filter and map with Kafka Streams, exactly_once_v2, a thread for each processor. Runs until SIGTERM. */
public class Streams {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) {
    Map<String, String> env = System.getenv();
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, env.get("GROUP"));
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, env.get("KAFKA"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, env.get("CORES"));
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, env.get("COMMIT_MS"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, env.get("STATE"));
    p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), "10000");
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), String.valueOf(4 << 20));
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), String.valueOf(256 << 10));
    p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), env.get("LINGER_MS"));
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(env.get("IN_TOPIC"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .mapValues(Streams::parse)
        .filter((key, order) -> order.get("amount").asDouble() > 50 && !"US".equals(order.get("country").asText()))
        .map((key, order) -> {
          order.put("total", order.get("amount").asDouble() * order.get("quantity").asInt());
          return KeyValue.pair(order.get("customer_id").asText(), text(order));
        })
        .to(env.get("OUT_TOPIC"), Produced.with(Serdes.String(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), p);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(5))));
    streams.start();
  }

  private static ObjectNode parse(byte[] value) {
    try {
      return (ObjectNode) JSON.readTree(value);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static byte[] text(ObjectNode order) {
    try {
      return JSON.writeValueAsBytes(order);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
