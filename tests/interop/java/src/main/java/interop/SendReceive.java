package interop;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Sends {@code --count} messages synchronously, asynchronously and in batches, each way to a topic of its own, and
 * receives them with push consumers (one that takes its queues in order and locks them, two that do not, one more that
 * asks for two of the four tags).
 *
 * <p>Checked: each message received exactly once, equal in all its parts to what was sent, at the queue and offset that
 * its acknowledgement named, under the ids that it named; offsets of a queue without a gap; in order where the client
 * promises order; and after the consumers have stopped, their committed offsets stand at the end of each queue.
 */
final class SendReceive {
    private static final int IN_FLIGHT_MAX = 64;
    private static final int BATCH = 50;

    private final Findings findings;
    private final String namesrv;
    private final String prefix;
    private final int count;

    SendReceive(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.prefix = options.text("prefix", "SendReceive");
        this.count = options.number("count", 10_000);
    }

    void run() throws Exception {
        DefaultMQProducer producer = Clients.producer(namesrv, prefix + "-producer");
        Topic sync = new Topic("sync");
        Topic async = new Topic("async");
        Topic batch = new Topic("batch");
        List<Group> groups = new ArrayList<>();
        for (Topic topic : List.of(sync, async, batch)) {
            // The topic exists before its consumers start: else they would see its route only at their next refresh, up to 30 s later.
            topic.acknowledged(0, Clients.sendFirst(producer, Messages.make(topic.name, 0)));
            groups.add(new Group(topic, "all", "*", topic == sync));
        }
        groups.add(new Group(sync, "tags", "tag0 || tag2", false));
        for (Group group : groups) {
            group.start();
        }
        timed("sync", () -> sendSync(producer, sync));
        timed("async", () -> sendAsync(producer, async));
        timed("batch", () -> sendBatches(producer, batch));
        for (Group group : groups) {
            Await.until(Await.LONG_MS, () -> group.received.size() >= group.expected());
        }
        for (Group group : groups) {
            group.consumer.shutdown();
            group.verify();
        }
        producer.shutdown();
    }

    private interface Sending {
        void run() throws Exception;
    }

    private void timed(String what, Sending sending) throws Exception {
        long start = System.nanoTime();
        sending.run();
        findings.note(what + ": " + count + " sent in " + (System.nanoTime() - start) / 1_000_000 + " ms");
    }

    private void sendSync(DefaultMQProducer producer, Topic topic) throws Exception {
        for (int seq = 1; seq < count; seq++) {
            topic.acknowledged(seq, producer.send(Messages.make(topic.name, seq)));
        }
    }

    private void sendAsync(DefaultMQProducer producer, Topic topic) throws Exception {
        Semaphore inFlight = new Semaphore(IN_FLIGHT_MAX);
        for (int i = 1; i < count; i++) {
            int seq = i;
            if (!inFlight.tryAcquire(Await.LONG_MS, TimeUnit.MILLISECONDS)) {
                throw new IllegalStateException("no callback for " + Await.LONG_MS + " ms");
            }
            producer.send(Messages.make(topic.name, seq), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    topic.acknowledged(seq, result);
                    inFlight.release();
                }

                @Override
                public void onException(Throwable e) {
                    findings.fail("async send " + seq + ": " + e);
                    inFlight.release();
                }
            });
        }
        findings.check(inFlight.tryAcquire(IN_FLIGHT_MAX, Await.LONG_MS, TimeUnit.MILLISECONDS), "async sends without a callback");
    }

    private void sendBatches(DefaultMQProducer producer, Topic topic) throws Exception {
        for (int from = 1; from < count; from += BATCH) {
            List<Message> messages = new ArrayList<>();
            int to = Math.min(from + BATCH, count);
            for (int seq = from; seq < to; seq++) {
                messages.add(Messages.make(topic.name, seq));
            }
            topic.batchAcknowledged(from, to, producer.send(messages));
        }
    }

    /** A topic and what was acknowledged of it. */
    private final class Topic {
        final String name;
        final Map<Integer, Place> places = new ConcurrentHashMap<>();

        Topic(String way) {
            this.name = prefix + "-" + way;
        }

        void acknowledged(int seq, SendResult result) {
            batchAcknowledged(seq, seq + 1, result);
        }

        void batchAcknowledged(int from, int to, SendResult result) {
            findings.equal(SendStatus.SEND_OK, result.getSendStatus(), name + " send status of " + from);
            String[] ids = result.getMsgId().split(",");
            String[] offsetIds = result.getOffsetMsgId().split(",");
            findings.equal(to - from, ids.length, name + " message ids of one acknowledgement");
            findings.equal(to - from, offsetIds.length, name + " offset ids of one acknowledgement");
            if (ids.length != to - from || offsetIds.length != to - from) {
                return;
            }
            for (int i = 0; i < ids.length; i++) {
                long offset = result.getQueueOffset() + i;
                places.put(from + i, new Place(result.getMessageQueue().getQueueId(), offset, ids[i], offsetIds[i]));
            }
        }
    }

    /** Where a message lies and what it is called, as its acknowledgement said. */
    private static final class Place {
        final int queue;
        final long offset;
        final String id;
        final String offsetId;

        Place(int queue, long offset, String id, String offsetId) {
            this.queue = queue;
            this.offset = offset;
            this.id = id;
            this.offsetId = offsetId;
        }
    }

    /** A consumer group of one topic and what it received. */
    private final class Group {
        final Topic topic;
        final String name;
        final String expression;
        final boolean orderly;
        final DefaultMQPushConsumer consumer;
        final Map<Integer, MessageExt> received = new ConcurrentHashMap<>();
        final Map<Integer, Long> lastOffset = new ConcurrentHashMap<>();
        final AtomicInteger deliveries = new AtomicInteger();

        Group(Topic topic, String name, String expression, boolean orderly) {
            this.topic = topic;
            this.name = topic.name + "-" + name;
            this.expression = expression;
            this.orderly = orderly;
            this.consumer = Clients.pushConsumer(namesrv, this.name);
        }

        int expected() {
            return expression.equals("*") ? count : (count + 1) / 2;
        }

        void start() throws Exception {
            consumer.subscribe(topic.name, expression);
            if (orderly) {
                consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                    messages.forEach(this::inOrder);
                    messages.forEach(this::accept);
                    return ConsumeOrderlyStatus.SUCCESS;
                });
            } else {
                consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                    messages.forEach(this::accept);
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                });
            }
            consumer.start();
        }

        private void accept(MessageExt message) {
            deliveries.incrementAndGet();
            MessageExt before = received.put(Messages.seq(message), message);
            if (before != null) {
                findings.fail(name + " message " + Messages.seq(message) + " twice: queue " + before.getQueueId() + " offset "
                    + before.getQueueOffset() + " and queue " + message.getQueueId() + " offset " + message.getQueueOffset()
                    + ", reconsumed " + message.getReconsumeTimes());
            }
        }

        private void inOrder(MessageExt message) {
            Long before = lastOffset.put(message.getQueueId(), message.getQueueOffset());
            if (before != null && before >= message.getQueueOffset()) {
                findings.fail(name + " queue " + message.getQueueId() + ": " + message.getQueueOffset() + " after " + before);
            }
        }

        void verify() throws Exception {
            findings.equal(expected(), received.size(), name + " messages received");
            findings.equal(received.size(), deliveries.get(), name + " deliveries");
            Map<Integer, TreeMap<Long, Integer>> queues = new HashMap<>();
            for (MessageExt message : received.values()) {
                Messages.verify(message, topic.name, findings);
                verifyPlace(message);
                Integer other = queues.computeIfAbsent(message.getQueueId(), queue -> new TreeMap<>())
                    .put(message.getQueueOffset(), Messages.seq(message));
                findings.check(other == null, name + " two messages at one offset: " + other + ", " + Messages.seq(message));
            }
            for (Map.Entry<Integer, TreeMap<Long, Integer>> queue : queues.entrySet()) {
                verifyQueue(queue.getKey(), queue.getValue());
            }
            verifyCommitted();
        }

        private void verifyPlace(MessageExt message) {
            int seq = Messages.seq(message);
            Place place = topic.places.get(seq);
            String what = name + " message " + seq + " ";
            if (place == null) {
                findings.fail(what + "was received and never acknowledged");
                return;
            }
            findings.equal(place.queue, message.getQueueId(), what + "queue");
            findings.equal(place.offset, message.getQueueOffset(), what + "queue offset");
            findings.equal(place.id, message.getMsgId(), what + "id");
            findings.equal(place.offsetId, offsetId(message), what + "offset id");
        }

        private void verifyQueue(int queue, TreeMap<Long, Integer> bySequence) {
            String what = name + " queue " + queue + " ";
            if (expression.equals("*")) {
                findings.equal(0L, bySequence.firstKey(), what + "first offset");
                findings.equal(bySequence.size() - 1L, bySequence.lastKey(), what + "last offset");
            }
            // One thread that waits for each acknowledgement fixes the order; several in flight do not.
            if (!topic.name.endsWith("async")) {
                int before = -1;
                for (int seq : bySequence.values()) {
                    findings.check(seq > before, what + "message " + seq + " lies after " + before);
                    before = seq;
                }
            }
        }

        @SuppressWarnings("deprecation")
        private void verifyCommitted() throws Exception {
            DefaultMQPullConsumer reader = Clients.pullConsumer(namesrv, name);
            Set<Integer> seen = new HashSet<>();
            for (MessageQueue queue : Clients.queues(reader, topic.name)) {
                seen.add(queue.getQueueId());
                // A queue that ends in messages of other tags need not have been committed to its end.
                if (expression.equals("*")) {
                    long committed = reader.fetchConsumeOffset(queue, true);
                    findings.equal(reader.maxOffset(queue), committed, name + " queue " + queue.getQueueId() + " committed offset");
                }
            }
            findings.check(seen.size() > 1, name + " has one queue only");
            reader.shutdown();
        }
    }

    private static String offsetId(MessageExt message) {
        return message instanceof MessageClientExt
            ? ((MessageClientExt) message).getOffsetMsgId()
            : message.getMsgId();
    }
}
