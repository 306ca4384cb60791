package interop;

import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Fills a store, and says what a server makes of it, so that two servers over one store can be compared.
 *
 * <p>{@link #produce}: {@code --count} messages over {@code --topics} topics, singly and in batches, and for one group
 * per topic a committed offset in the middle of each queue. {@link #dump}: everything that can be read, a line a
 * message and a line a committed offset, sorted, into {@code --out}. {@link #consumeRest}: push consumers of those groups
 * receive what lies behind the committed offsets, each message exactly once, and commit it.
 */
final class StoreServe {
    private static final int BATCH = 20;

    private final Options options;
    private final Findings findings;
    private final String namesrv;
    private final String prefix;
    private final int topics;

    StoreServe(Options options, Findings findings) {
        this.options = options;
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.prefix = options.text("prefix", "StoreServe");
        this.topics = options.number("topics", 3);
    }

    private String topic(int index) {
        return prefix + "-" + index;
    }

    private String group(int index) {
        return prefix + "-" + index + "-group";
    }

    @SuppressWarnings("deprecation")
    void produce() throws Exception {
        int count = options.number("count", 3_000);
        int from = options.number("from", 0);
        DefaultMQProducer producer = Clients.producer(namesrv, prefix + "-producer");
        for (int index = 0; index < topics; index++) {
            Clients.sendFirst(producer, Messages.make(topic(index), from));
        }
        int seq = from + 1;
        while (seq < from + count / topics) {
            for (int index = 0; index < topics; index++) {
                producer.send(Messages.make(topic(index), seq));
            }
            seq++;
            if (seq % 100 == 0 && seq + BATCH < from + count / topics) {
                sendBatches(producer, seq);
                seq += BATCH;
            }
        }
        producer.shutdown();
        for (int index = 0; index < topics; index++) {
            DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, group(index));
            for (MessageQueue queue : Clients.queues(consumer, topic(index))) {
                Clients.commit(consumer, queue, consumer.maxOffset(queue) / 2);
            }
            consumer.shutdown();
        }
        findings.note(topics * (seq - from) + " messages in " + topics + " topics");
    }

    private void sendBatches(DefaultMQProducer producer, int from) throws Exception {
        for (int index = 0; index < topics; index++) {
            List<Message> batch = new ArrayList<>();
            for (int seq = from; seq < from + BATCH; seq++) {
                batch.add(Messages.make(topic(index), seq));
            }
            producer.send(batch);
        }
    }

    @SuppressWarnings("deprecation")
    void dump() throws Exception {
        List<String> lines = new ArrayList<>();
        for (int index = 0; index < topics; index++) {
            DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, group(index));
            for (MessageQueue queue : Clients.queues(consumer, topic(index))) {
                int before = lines.size();
                long[] range = Clients.readQueue(consumer, queue, message -> {
                    Messages.verify(message, queue.getTopic(), findings);
                    lines.add(line(message));
                });
                findings.equal(range[1] - range[0], (long) lines.size() - before, "messages in " + queue);
                lines.add(String.format("queue %s %d from %d to %d committed %d", queue.getTopic(), queue.getQueueId(), range[0], range[1],
                    consumer.fetchConsumeOffset(queue, true)));
            }
            consumer.shutdown();
        }
        Collections.sort(lines);
        try (BufferedWriter out = Files.newBufferedWriter(Paths.get(options.text("out")), StandardCharsets.UTF_8)) {
            for (String line : lines) {
                out.write(line);
                out.write('\n');
            }
        }
        findings.note(lines.size() + " lines");
    }

    private static String line(MessageExt message) {
        // The client adds these two from the pull's answer; they are not part of the message.
        Map<String, String> properties = new TreeMap<>(message.getProperties());
        properties.remove(MessageConst.PROPERTY_MIN_OFFSET);
        properties.remove(MessageConst.PROPERTY_MAX_OFFSET);
        return String.format("message %s %d %08d id %s keys '%s' tags '%s' body %d crc %08x flag %d sys %d born %d %s stored %d %s at %d again %d %s",
            message.getTopic(), message.getQueueId(), message.getQueueOffset(), message.getMsgId(), message.getKeys(), message.getTags(),
            message.getBody().length, Messages.crc(message.getBody()), message.getFlag(), message.getSysFlag(), message.getBornTimestamp(),
            message.getBornHostString(), message.getStoreTimestamp(), message.getStoreHost(), message.getCommitLogOffset(),
            message.getReconsumeTimes(), properties);
    }

    @SuppressWarnings("deprecation")
    void consumeRest() throws Exception {
        for (int index = 0; index < topics; index++) {
            String group = group(index);
            Set<String> expected = restOf(index);
            Set<String> received = ConcurrentHashMap.newKeySet();
            DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, group(index));
            consumer.subscribe(topic(index), "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    findings.check(received.add(message.getMsgId()), group + " received twice: " + message.getMsgId());
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            Await.until(Await.LONG_MS, () -> received.size() >= expected.size());
            consumer.shutdown();
            findings.equal(expected.size(), received.size(), group(index) + " messages behind the committed offsets");
            findings.check(received.equals(expected), group(index) + " received other messages than lie behind its offsets");
            DefaultMQPullConsumer reader = Clients.pullConsumer(namesrv, group(index));
            for (MessageQueue queue : Clients.queues(reader, topic(index))) {
                findings.equal(reader.maxOffset(queue), reader.fetchConsumeOffset(queue, true), "committed at the end in " + queue);
            }
            reader.shutdown();
        }
    }

    /** Ids of the messages behind the committed offsets of a topic's group. */
    @SuppressWarnings("deprecation")
    private Set<String> restOf(int index) throws Exception {
        Set<String> ids = ConcurrentHashMap.newKeySet();
        DefaultMQPullConsumer reader = Clients.pullConsumer(namesrv, group(index));
        for (MessageQueue queue : Clients.queues(reader, topic(index))) {
            long committed = reader.fetchConsumeOffset(queue, true);
            findings.check(committed > 0, "no committed offset for " + queue);
            Clients.readQueue(reader, queue, message -> {
                if (message.getQueueOffset() >= committed) {
                    ids.add(message.getMsgId());
                }
            });
        }
        reader.shutdown();
        return ids;
    }
}
