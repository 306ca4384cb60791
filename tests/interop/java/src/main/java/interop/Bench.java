package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * How fast this client sends and consumes, measured on request, so that one JVM that has warmed up serves several rounds.
 *
 * <p>Each line of standard input is a round, {@code produce COUNT} or {@code consume COUNT GROUP}; each is answered with
 * {@code rate MESSAGES_A_SECOND FAILURES}. It ends with its input.
 */
final class Bench {
    private static final long ROUND_S = 120;
    private final String namesrv;
    private final String topic;
    private final byte[] body;
    private final int inFlight;

    Bench(Options options) {
        namesrv = options.text("namesrv");
        topic = options.text("topic");
        body = new byte[options.number("size", 128)];
        java.util.Arrays.fill(body, (byte) 'x');
        inFlight = options.number("in-flight", 64);
    }

    void run() throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("java-bench");
        producer.setNamesrvAddr(namesrv);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        BufferedReader rounds = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = rounds.readLine(); line != null; line = rounds.readLine()) {
            String[] words = line.trim().split(" ");
            long count = Long.parseLong(words[1]);
            System.out.println(words[0].equals("produce") ? produce(producer, count) : consume(count, words[2]));
            System.out.flush();
        }
    }

    private String produce(DefaultMQProducer producer, long count) throws Exception {
        Semaphore places = new Semaphore(inFlight);
        AtomicLong failures = new AtomicLong();
        long begin = System.nanoTime();
        for (long number = 0; number < count; number++) {
            places.acquire();
            producer.send(new Message(topic, body), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    if (result.getSendStatus() != SendStatus.SEND_OK) {
                        failures.incrementAndGet();
                    }
                    places.release();
                }

                @Override
                public void onException(Throwable error) {
                    failures.incrementAndGet();
                    places.release();
                }
            });
        }
        if (!places.tryAcquire(inFlight, ROUND_S, TimeUnit.SECONDS)) {
            throw new IllegalStateException("sends do not end");
        }
        return rate(count - failures.get(), begin, System.nanoTime(), failures.get());
    }

    private String consume(long count, String group) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        AtomicLong begin = new AtomicLong();
        AtomicLong end = new AtomicLong();
        AtomicLong seen = new AtomicLong();
        CountDownLatch done = new CountDownLatch(1);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            begin.compareAndSet(0, System.nanoTime());
            if (seen.addAndGet(messages.size()) >= count && end.compareAndSet(0, System.nanoTime())) {
                done.countDown();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        boolean ended = done.await(ROUND_S, TimeUnit.SECONDS);
        consumer.shutdown();
        if (!ended) {
            throw new IllegalStateException("only " + seen + " of " + count + " messages come");
        }
        return rate(count, begin.get(), end.get(), 0);
    }

    private static String rate(long messages, long begin, long end, long failures) {
        return "rate " + Math.round(messages / ((end - begin) / 1e9)) + " " + failures;
    }
}
