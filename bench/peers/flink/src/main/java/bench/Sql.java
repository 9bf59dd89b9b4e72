package bench;

import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** The peer: filter and map with Flink SQL, exactly once, a slot for each processor. Runs until SIGTERM. */
public class Sql {
  public static void main(String[] arguments) throws Exception {
    Map<String, String> env = System.getenv();
    Configuration c = new Configuration();
    c.setString("parallelism.default", env.get("CORES"));
    c.setString("taskmanager.numberOfTaskSlots", env.get("CORES"));
    c.setString("execution.runtime-mode", "streaming");
    c.setString("pipeline.object-reuse", "true");
    c.setString("taskmanager.memory.managed.size", "128m");
    c.setString("taskmanager.memory.network.min", "64m");
    c.setString("execution.checkpointing.interval", env.get("COMMIT_MS") + " ms");
    c.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
    c.setString("execution.checkpointing.dir", "file://" + env.get("STATE"));
    c.setString("execution.checkpointing.storage", "filesystem");
    TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.newInstance().withConfiguration(c).build());
    tables.executeSql(String.format("""
        CREATE TABLE orders (order_id STRING, customer_id BIGINT, country STRING, amount DOUBLE, quantity INT, ts BIGINT)
        WITH ('connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s', 'properties.group.id' = '%s',
          'scan.startup.mode' = 'earliest-offset', 'format' = 'json',
          'properties.max.partition.fetch.bytes' = '4194304', 'properties.max.poll.records' = '10000')
        """, env.get("IN_TOPIC"), env.get("KAFKA"), env.get("GROUP")));
    tables.executeSql(String.format("""
        CREATE TABLE kept (k STRING, order_id STRING, customer_id BIGINT, country STRING, amount DOUBLE, quantity INT,
          ts BIGINT, total DOUBLE)
        WITH ('connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s', 'key.format' = 'raw',
          'key.fields' = 'k', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY',
          'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '%s',
          'properties.transaction.timeout.ms' = '600000', 'properties.batch.size' = '262144',
          'properties.linger.ms' = '%s')
        """, env.get("OUT_TOPIC"), env.get("KAFKA"), env.get("GROUP"), env.get("LINGER_MS")));
    tables.executeSql("""
        INSERT INTO kept SELECT CAST(customer_id AS STRING), order_id, customer_id, country, amount, quantity, ts,
          amount * quantity FROM orders WHERE amount > 50 AND country <> 'US'
        """).await();
  }
}
