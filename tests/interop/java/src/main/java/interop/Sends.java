package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Ways of sending and of finding what was sent again. */
final class Sends {
    private static final int COUNT = 200;
    private static final long LATER_MS = 3_600_000;

    private Sends() {
    }

    /** Nobody answers a oneway send; the messages arrive all the same, each once. */
    static void oneway(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        MessageQueue queue = producer.fetchPublishMessageQueues(scene.topic).get(0);
        for (int seq = 1; seq < COUNT; seq++) {
            switch (seq % 3) {
                case 0:
                    producer.sendOneway(Messages.make(scene.topic, seq));
                    break;
                case 1:
                    producer.sendOneway(Messages.make(scene.topic, seq), queue);
                    break;
                default:
                    producer.sendOneway(Messages.make(scene.topic, seq), (queues, message, argument) -> queues.get(0), null);
                    break;
            }
        }
        Map<Integer, MessageExt> stored = new ConcurrentHashMap<>();
        AtomicInteger reads = new AtomicInteger();
        Await.until(Await.LONG_MS, () -> {
            stored.clear();
            reads.set(0);
            readAll(scene, message -> {
                stored.put(Messages.seq(message), message);
                reads.incrementAndGet();
            });
            return stored.size() >= COUNT;
        });
        scene.findings.equal(COUNT, stored.size(), "messages stored");
        scene.findings.equal(COUNT, reads.get(), "messages stored, each once");
        stored.values().forEach(message -> Messages.verify(message, scene.topic, scene.findings));
        producer.shutdown();
    }

    @SuppressWarnings("deprecation")
    private static void readAll(Features.Scene scene, Clients.Reader reader) throws Exception {
        DefaultMQPullConsumer consumer = Clients.pullConsumer(scene.namesrv, scene.topic + "-reader");
        for (MessageQueue queue : Clients.queues(consumer, scene.topic)) {
            Clients.readQueue(consumer, queue, reader);
        }
        consumer.shutdown();
    }

    /** Found by each of several keys, by either id; delivered by tag, with those of other tags left out. */
    static void keysAndTags(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        List<SendResult> sent = new ArrayList<>();
        long start = System.currentTimeMillis();
        sent.add(Clients.sendFirst(producer, Messages.make(scene.topic, 0)));
        for (int seq = 1; seq < 40; seq++) {
            sent.add(producer.send(Messages.make(scene.topic, seq)));
        }
        found(scene, producer, "key-7", 1, start);
        found(scene, producer, "key-39", 1, start);
        found(scene, producer, "group-3", 4, start);
        // The most that is asked for is the most that comes.
        QueryResult two = producer.queryMessage(scene.topic, "group-3", 2, start - LATER_MS, start + LATER_MS);
        scene.findings.equal(2, two.getMessageList().size(), "messages of group-3, at most two");
        nothing(scene, () -> producer.queryMessage(scene.topic, "no-such-key", 8, start - LATER_MS, start + LATER_MS), "a missing key");
        nothing(scene, () -> producer.queryMessage(scene.topic, "key-7", 8, 0, start - LATER_MS), "a key at another time");
        nothing(scene, () -> producer.queryMessage("TBW102", "key-7", 8, 0, start + LATER_MS), "a key in another topic");
        for (int seq : new int[] {0, 21, 39}) {
            SendResult result = sent.get(seq);
            MessageExt byOffset = producer.viewMessage(scene.topic, result.getOffsetMsgId());
            MessageExt byUnique = producer.viewMessage(scene.topic, result.getMsgId());
            scene.findings.equal(seq, Messages.seq(byOffset), "message by offset id");
            scene.findings.equal(seq, Messages.seq(byUnique), "message by unique id");
            Messages.verify(byOffset, scene.topic, scene.findings);
            Messages.verify(byUnique, scene.topic, scene.findings);
        }
        byTag(scene, "tag1 || tag3", 20);
        byTag(scene, "tag2", 10);
        byTag(scene, " tag0||tag9 ", 10);
        producer.shutdown();
    }

    private static void found(Features.Scene scene, DefaultMQProducer producer, String key, int count, long around) throws Exception {
        Set<Integer> seqs = new HashSet<>();
        // The index follows the log.
        Await.until(Await.LONG_MS / 4, () -> {
            try {
                producer.queryMessage(scene.topic, key, 32, around - LATER_MS, around + LATER_MS).getMessageList()
                    .forEach(message -> seqs.add(Messages.seq(message)));
            } catch (MQClientException e) {
                Await.pause(50);
            }
            return seqs.size() >= count;
        });
        scene.findings.equal(count, seqs.size(), "messages of " + key);
    }

    private interface Query {
        void run() throws Exception;
    }

    private static void nothing(Features.Scene scene, Query query, String what) throws Exception {
        try {
            query.run();
            scene.findings.fail("a query for " + what + " found something");
        } catch (MQClientException e) {
            scene.findings.check(e.getMessage().contains("query message by key finished, but no message"), what + ": " + e.getMessage());
        }
    }

    private static void byTag(Features.Scene scene, String expression, int count) throws Exception {
        Set<Integer> received = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-by-" + expression.replaceAll("[^a-z0-9]", ""));
        consumer.subscribe(scene.topic, expression);
        Clients.listen(consumer, message -> {
            scene.findings.check(expression.contains(message.getTags()), expression + " received a message of " + message.getTags());
            scene.findings.check(received.add(Messages.seq(message)), expression + " received " + Messages.seq(message) + " twice");
            return true;
        });
        consumer.start();
        scene.findings.check(Await.until(Await.LONG_MS, () -> received.size() >= count), expression + " received " + received.size());
        consumer.shutdown();
    }

    /** A namespace is a prefix on the wire, which the application never sees. */
    @SuppressWarnings("deprecation")
    static void namespace(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(scene.topic + "-producer");
        producer.setNamesrvAddr(scene.namesrv);
        producer.setNamespace("house");
        producer.start();
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-group");
        consumer.setNamespace("house");
        consumer.setPollNameServerInterval(1_000);
        consumer.subscribe(scene.topic, "*");
        Map<Integer, Integer> deliveries = new ConcurrentHashMap<>();
        Clients.listen(consumer, message -> {
            Messages.verify(message, scene.topic, scene.findings);
            return deliveries.merge(Messages.seq(message), 1, Integer::sum) > 1;
        }, 1);
        consumer.start();
        // Twice each: the retry topic has the namespace too.
        scene.findings.check(Await.until(Await.LONG_MS, () -> deliveries.getOrDefault(0, 0) == 2), "deliveries: " + deliveries);
        consumer.shutdown();
        producer.shutdown();
        for (String raw : List.of("house%" + scene.topic, "%RETRY%house%" + scene.topic + "-group")) {
            DefaultMQPullConsumer reader = Clients.pullConsumer(scene.namesrv, scene.topic + "-raw");
            long stored = 0;
            for (MessageQueue queue : Clients.queues(reader, raw)) {
                stored += reader.maxOffset(queue);
            }
            scene.findings.equal(1L, stored, "messages in " + raw);
            reader.shutdown();
        }
    }

    /** What a producer and a consumer tell of their doings is found in the trace topic by the message's id. */
    static void trace(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(scene.topic + "-producer", true, null);
        producer.setNamesrvAddr(scene.namesrv);
        producer.start();
        String id = Clients.sendFirst(producer, Messages.make(scene.topic, 1)).getMsgId();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(scene.topic + "-group", true, null);
        consumer.setNamesrvAddr(scene.namesrv);
        consumer.subscribe(scene.topic, "*");
        Clients.listen(consumer, message -> true);
        consumer.start();
        Set<String> kinds = ConcurrentHashMap.newKeySet();
        Set<String> expected = Set.of("Pub", "SubBefore", "SubAfter");
        Await.until(Await.LONG_MS / 2, () -> {
            for (MessageExt trace : traces(producer, id)) {
                for (String context : new String(trace.getBody(), StandardCharsets.UTF_8).split("\u0002")) {
                    if (context.contains(id)) {
                        kinds.add(context.substring(0, context.indexOf('\u0001')));
                    }
                }
            }
            return kinds.containsAll(expected);
        });
        scene.findings.check(kinds.equals(expected), "kinds of traces found: " + kinds);
        consumer.shutdown();
        producer.shutdown();
    }

    private static List<MessageExt> traces(DefaultMQProducer producer, String id) throws Exception {
        try {
            long now = System.currentTimeMillis();
            return producer.queryMessage("RMQ_SYS_TRACE_TOPIC", id, 8, now - LATER_MS, now + LATER_MS).getMessageList();
        } catch (MQClientException e) {
            Await.pause(200); // not yet
            return List.of();
        }
    }

    /** Clients of 4.x may send to the port two below the broker's own. */
    static void vipChannel(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(scene.topic + "-producer");
        producer.setNamesrvAddr(scene.namesrv);
        producer.setVipChannelEnabled(true);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        SendStatus[] status = new SendStatus[1];
        Exception[] last = new Exception[1];
        // Java's broker refuses senders while it warms up.
        Await.until(Await.LONG_MS / 6, () -> {
            try {
                status[0] = producer.send(new Message(scene.topic, new byte[] {1})).getSendStatus();
            } catch (Exception e) {
                last[0] = e;
                Await.pause(200);
            }
            return status[0] != null;
        });
        scene.findings.check(status[0] == SendStatus.SEND_OK, "send status " + status[0] + " after " + last[0]);
        producer.shutdown();
    }
}
