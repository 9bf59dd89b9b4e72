package bench;

import java.nio.charset.StandardCharsets;
import java.util.SplittableRandom;

/** Order number n, the same for ever: JSON of about 136 bytes, and what a correct pipeline makes of it. */
final class Orders {
  private static final String[] COUNTRIES = {"FR", "DE", "US", "GB", "JP", "BR", "IN", "MA"};

  final long customer;
  final String country;
  final int cents;
  final int quantity;
  final int noise;
  final long number;

  Orders(long number) {
    SplittableRandom random = new SplittableRandom(number);
    this.number = number;
    customer = random.nextInt(100_000);
    country = COUNTRIES[random.nextInt(8)];
    // The sum of two exponentials: many small amounts, few large ones. Two decimals.
    cents = (int) (-4000 * (Math.log1p(-random.nextDouble()) + Math.log1p(-random.nextDouble())));
    quantity = 1 + random.nextInt(9);
    noise = random.nextInt();
  }

  byte[] json(long ts) {
    return String.format(
            "{\"order_id\":\"%08x-0000-4000-8000-%012x\",\"customer_id\":%d,\"country\":\"%s\",\"amount\":%d.%02d,\"quantity\":%d,\"ts\":%d}",
            noise, number, customer, country, cents / 100, cents % 100, quantity, ts)
        .getBytes(StandardCharsets.UTF_8);
  }

  boolean kept() {
    return cents > 5000 && !country.equals("US");
  }

  /** In cents. */
  long total() {
    return (long) cents * quantity;
  }
}
