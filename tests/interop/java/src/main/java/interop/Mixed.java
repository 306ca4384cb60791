package interop;

import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Java's part of a group that it shares with another client, whose log ({@code --rust}) has a line
 * {@code time queue offset body} for each message, the time in ms since 1970. What this part consumed goes to {@code --out} in the
 * same form.
 */
final class Mixed {
    private static final int ORDERED = 600;
    private static final int FIRST_SETTLED = 1000;
    private static final int SETTLED = 400;
    private static final long STAY_MS = 4_000;
    private static final int QUEUES = 4;

    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final String group;
    private final Options options;
    private final Queue<String> lines = new ConcurrentLinkedQueue<>();
    private final Set<Integer> queues = ConcurrentHashMap.newKeySet();

    Mixed(Options options, Findings findings) {
        this.findings = findings;
        this.options = options;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("topic");
        this.group = options.text("group");
    }

    void run() throws Exception {
        DefaultMQProducer producer = Clients.producer(namesrv, topic + "-producer");
        String mode = options.text("mode");
        if (mode.equals("make")) {
            Clients.sendFirst(producer, message(0));
        } else if (mode.equals("shared")) {
            shared(producer);
        } else {
            ordered(producer);
        }
        producer.shutdown();
        if (!mode.equals("make")) {
            try (PrintWriter out = new PrintWriter(options.text("out"), "UTF-8")) {
                lines.forEach(out::println);
            }
        }
    }

    /** Both have half of the queues before the messages that count are sent. */
    private void shared(DefaultMQProducer producer) throws Exception {
        Path rust = Paths.get(options.text("rust"));
        findings.check(Await.until(Await.LONG_MS, () -> consumedBy(rust, 0)), "the other member never consumes");
        DefaultMQPushConsumer consumer = consumer(false);
        consumer.start();
        int[] next = {1};
        // While queues move, messages may come twice; these do not count.
        findings.check(Await.until(Await.LONG_MS, () -> {
            queues.clear();
            int first = next[0];
            for (; next[0] < first + 2 * QUEUES && next[0] < FIRST_SETTLED; next[0]++) {
                producer.send(message(next[0]));
            }
            Await.pause(500);
            return queues.size() == QUEUES / 2;
        }), "the members never share the queues");
        Await.pause(STAY_MS);
        for (int body = FIRST_SETTLED; body < FIRST_SETTLED + SETTLED; body++) {
            producer.send(message(body));
        }
        waitForAll(rust, FIRST_SETTLED, FIRST_SETTLED + SETTLED);
        consumer.shutdown();
    }

    /** Members join and leave while messages flow, always with the other client there. */
    private void ordered(DefaultMQProducer producer) throws Exception {
        Path rust = Paths.get(options.text("rust"));
        findings.check(Await.until(Await.LONG_MS, () -> consumedBy(rust, 0)), "the other member never consumes");
        DefaultMQPushConsumer consumer = null;
        for (int body = 1; body <= ORDERED; body++) {
            producer.send(message(body));
            Await.pause(25);
            if (body % 200 == 50) {
                consumer = consumer(true);
                consumer.start();
            } else if (body % 200 == 0) {
                consumer.shutdown();
            }
        }
        waitForAll(rust, 1, ORDERED + 1);
    }

    private void waitForAll(Path rust, int begin, int end) throws Exception {
        findings.check(Await.until(2 * Await.LONG_MS, () -> {
            Await.pause(200);
            Set<Integer> bodies = ConcurrentHashMap.newKeySet();
            lines.forEach(line -> bodies.add(Integer.parseInt(line.split(" ")[3])));
            linesOf(rust).forEach(line -> bodies.add(Integer.parseInt(line.split(" ")[3])));
            for (int body = begin; body < end; body++) {
                if (!bodies.contains(body)) {
                    return false;
                }
            }
            return true;
        }), "messages never consumed");
    }

    private static boolean consumedBy(Path rust, int body) throws Exception {
        Await.pause(100);
        return linesOf(rust).stream().anyMatch(line -> line.endsWith(" " + body));
    }

    private static List<String> linesOf(Path log) throws Exception {
        List<String> all = Files.readAllLines(log, StandardCharsets.UTF_8);
        all.removeIf(line -> !line.matches("\\d+ \\d+ \\d+ \\d+"));
        return all;
    }

    private Message message(int body) {
        return new Message(topic, Integer.toString(body).getBytes(StandardCharsets.UTF_8));
    }

    private DefaultMQPushConsumer consumer(boolean isOrdered) throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, group);
        consumer.subscribe(topic, "*");
        if (isOrdered) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                messages.forEach(this::note);
                return ConsumeOrderlyStatus.SUCCESS;
            });
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(this::note);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
        return consumer;
    }

    private void note(MessageExt message) {
        queues.add(message.getQueueId());
        String body = new String(message.getBody(), StandardCharsets.UTF_8);
        lines.add(System.currentTimeMillis() + " " + message.getQueueId() + " " + message.getQueueOffset() + " " + body);
    }
}
