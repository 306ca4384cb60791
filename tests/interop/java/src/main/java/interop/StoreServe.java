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
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.zip.CRC32;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Fills a store, and says what a server makes of it, so that two servers over one store can be compared.
 *
 * <p>{@link #produce}: {@code --count} messages over {@code --topics} topics, singly and in batches, {@code --bulk} more
 * in large batches, {@code --delayed} more for a second later in a topic of their own, and for one group per topic a committed offset in the middle of each queue. {@link #dump}: everything
 * that can be read, a line for each {@code --block} messages of a queue (their number and a checksum of all that they
 * are), for each committed offset and for each of a sample of queries by key and by unique id, sorted, into
 * {@code --out}; {@code --block 1} shows the messages themselves. {@link #consumeRest}: push consumers of those groups receive
 * what lies behind the committed offsets, each message exactly once, and commit it.
 */
final class StoreServe {
    private static final int BATCH = 20;
    private static final int BULK = 200;
    /** Queries by key, and as many by unique id, a topic. */
    private static final int SAMPLES = 60;
    private static final int FOUND_MAX = 8;

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
                sendBatches(producer, seq, BATCH);
                seq += BATCH;
            }
        }
        for (int bulk = options.number("bulk", 0); bulk > 0; bulk -= topics * BULK) {
            sendBatches(producer, seq, BULK);
            seq += BULK;
        }
        for (int delayed = options.number("delayed", 0); delayed > 0; delayed--) {
            Message message = Messages.make(prefix + "-delayed", delayed);
            message.setDelayTimeLevel(1);
            Clients.sendFirst(producer, message);
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

    private void sendBatches(DefaultMQProducer producer, int from, int count) throws Exception {
        for (int index = 0; index < topics; index++) {
            List<Message> batch = new ArrayList<>();
            for (int seq = from; seq < from + count; seq++) {
                batch.add(Messages.make(topic(index), seq));
            }
            producer.send(batch);
        }
    }

    @SuppressWarnings("deprecation")
    void dump() throws Exception {
        List<String> lines = new ArrayList<>();
        long messages = 0;
        for (int index = 0; index < topics; index++) {
            DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, group(index));
            List<MessageExt> samples = new ArrayList<>();
            for (MessageQueue queue : Clients.queues(consumer, topic(index))) {
                messages += dumpQueue(consumer, queue, lines, samples);
            }
            for (int i = 0; i < SAMPLES && !samples.isEmpty(); i++) {
                lines.addAll(queries(consumer, samples.get(i * samples.size() / SAMPLES)));
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
        findings.note(messages + " messages, " + lines.size() + " lines");
    }

    @SuppressWarnings("deprecation")
    private long dumpQueue(DefaultMQPullConsumer consumer, MessageQueue queue, List<String> lines, List<MessageExt> samples) throws Exception {
        Blocks blocks = new Blocks(queue, options.number("block", 64), lines);
        long[] range = Clients.readQueue(consumer, queue, message -> {
            Messages.verify(message, queue.getTopic(), findings);
            blocks.add(line(message));
            if (blocks.count % SAMPLES == 1) {
                message.setBody(new byte[0]); // only its names are needed
                samples.add(message);
            }
        });
        blocks.end();
        findings.equal(range[1] - range[0], blocks.count, "messages in " + queue);
        lines.add(String.format("queue %s %d from %d to %d committed %d", queue.getTopic(), queue.getQueueId(), range[0], range[1],
            consumer.fetchConsumeOffset(queue, true)));
        return blocks.count;
    }

    /** What is found by a message's first key and by its unique id. */
    @SuppressWarnings("deprecation")
    private List<String> queries(DefaultMQPullConsumer consumer, MessageExt message) throws Exception {
        String key = message.getKeys().split(" ")[0];
        // A set: after an unclean stop RocketMQ indexes again what it had indexed already, and finds it twice.
        Set<String> found = new TreeSet<>();
        try {
            consumer.queryMessage(message.getTopic(), key, FOUND_MAX, 0, System.currentTimeMillis() + 3_600_000).getMessageList()
                .forEach(one -> found.add(one.getQueueId() + "/" + one.getQueueOffset()));
        } catch (MQClientException e) {
            found.add("nothing");
        }
        String byId;
        try {
            MessageExt one = consumer.viewMessage(message.getTopic(), message.getMsgId());
            byId = one == null ? "nothing" : one.getQueueId() + "/" + one.getQueueOffset();
        } catch (MQClientException e) {
            byId = "nothing";
        }
        return List.of("key " + message.getTopic() + " " + key + " finds " + found, "id " + message.getTopic() + " " + message.getMsgId() + " finds " + byId);
    }

    /** Lines of one queue, gathered in blocks. */
    private static final class Blocks {
        private final MessageQueue queue;
        private final int size;
        private final List<String> lines;
        private final CRC32 crc = new CRC32();
        private long count;

        Blocks(MessageQueue queue, int size, List<String> lines) {
            this.queue = queue;
            this.size = size;
            this.lines = lines;
        }

        void add(String line) {
            count++;
            if (size == 1) {
                lines.add(line);
                return;
            }
            crc.update(line.getBytes(StandardCharsets.UTF_8));
            if (count % size == 0) {
                end();
            }
        }

        void end() {
            if (crc.getValue() != 0) {
                lines.add(String.format("block %s %d up to %08d crc %08x", queue.getTopic(), queue.getQueueId(), count, crc.getValue()));
            }
            crc.reset();
        }
    }

    private static String line(MessageExt message) {
        // The client adds these two from the pull's answer; they are not part of the message.
        Map<String, String> properties = new TreeMap<>(message.getProperties());
        properties.remove(MessageConst.PROPERTY_MIN_OFFSET);
        properties.remove(MessageConst.PROPERTY_MAX_OFFSET);
        return "message " + message.getTopic() + " " + message.getQueueId() + " " + message.getQueueOffset() + " id " + message.getMsgId()
            + " keys '" + message.getKeys() + "' tags '" + message.getTags() + "' body " + message.getBody().length + " crc "
            + Messages.crc(message.getBody()) + " flag " + message.getFlag() + " sys " + message.getSysFlag() + " born " + message.getBornTimestamp()
            + " " + message.getBornHostString() + " stored " + message.getStoreTimestamp() + " " + message.getStoreHost() + " at "
            + message.getCommitLogOffset() + " again " + message.getReconsumeTimes() + " " + properties;
    }

    @SuppressWarnings("deprecation")
    void consumeRest() throws Exception {
        for (int index = 0; index < topics; index++) {
            String group = group(index);
            Map<MessageQueue, Long> ends = new TreeMap<>();
            Set<String> expected = restOf(index, ends);
            Set<String> received = ConcurrentHashMap.newKeySet();
            DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, group(index));
            consumer.setAllocateMessageQueueStrategy(new All());
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
                findings.equal(ends.get(queue), reader.fetchConsumeOffset(queue, true), "committed at the end in " + queue);
            }
            reader.shutdown();
        }
    }

    /**
     * Every queue, whoever else is in the group. A client of RocketMQ may send a heartbeat while it closes, and a broker of
     * RocketMQ that is busy takes it after it has seen the connection closed: its list then names a reader that is gone for 120 s.
     */
    private static final class All implements AllocateMessageQueueStrategy {
        @Override
        public List<MessageQueue> allocate(String group, String self, List<MessageQueue> queues, List<String> members) {
            return queues;
        }

        @Override
        public String getName() {
            return "ALL";
        }
    }

    /** Ids of the messages behind the committed offsets of a topic's group; and its queues' ends, which only masters tell otherwise. */
    @SuppressWarnings("deprecation")
    private Set<String> restOf(int index, Map<MessageQueue, Long> ends) throws Exception {
        Set<String> ids = ConcurrentHashMap.newKeySet();
        DefaultMQPullConsumer reader = Clients.pullConsumer(namesrv, group(index));
        for (MessageQueue queue : Clients.queues(reader, topic(index))) {
            long committed = reader.fetchConsumeOffset(queue, true);
            findings.check(committed > 0, "no committed offset for " + queue);
            long[] range = Clients.readQueue(reader, queue, message -> {
                if (message.getQueueOffset() >= committed) {
                    ids.add(message.getMsgId());
                }
            });
            ends.put(queue, range[1]);
        }
        reader.shutdown();
        return ids;
    }
}
