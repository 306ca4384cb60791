package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullCallback;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The pull consumer, which reads single offsets as it is told, and offsets by time. */
@SuppressWarnings("deprecation") // the only client with these requests
final class Pulls {
    private static final int COUNT = 40;
    private static final int REPLY_MESSAGES_MAX = 32;
    private static final long FULL_MS = 2_000;
    private static final int TOPIC_NOT_EXIST = 17;
    private static final int INVALID_PARAMETER = 29;
    /** So far apart that no two messages have one store time. */
    private static final long APART_MS = 15;

    private Pulls() {
    }

    private static MessageQueue fill(Features.Scene scene, long apartMs) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        SendResult first = Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        for (int seq = 1; seq < COUNT; seq++) {
            Await.pause(apartMs);
            producer.send(Messages.make(scene.topic, seq), first.getMessageQueue());
        }
        producer.shutdown();
        return first.getMessageQueue();
    }

    static void run(Features.Scene scene) throws Exception {
        MessageQueue queue = fill(scene, 0);
        DefaultMQPullConsumer consumer = Clients.pullConsumer(scene.namesrv, scene.topic + "-group");
        Clients.commit(consumer, queue, 5);
        scene.findings.equal(5L, consumer.fetchConsumeOffset(queue, true), "committed offset");
        scene.findings.equal(0L, consumer.minOffset(queue), "minimum offset");
        scene.findings.equal((long) COUNT, consumer.maxOffset(queue), "maximum offset");
        pulled(scene, consumer.pull(queue, "*", 3, 8), PullStatus.FOUND, 11, 8);
        pulled(scene, consumer.pull(queue, "*", 0, 1), PullStatus.FOUND, 1, 1);
        // However many are asked for, a reply holds no more than this.
        pulled(scene, fullest(consumer, queue), PullStatus.FOUND, REPLY_MESSAGES_MAX, REPLY_MESSAGES_MAX);
        pulled(scene, consumer.pull(queue, "tag1", 0, 2), PullStatus.FOUND, 6, 2);
        pulled(scene, consumer.pull(queue, "tag1 || tag2", 0, 4), PullStatus.FOUND, 7, 4);
        pulled(scene, consumer.pull(queue, "no-such-tag", 0, 4), PullStatus.NO_MATCHED_MSG, COUNT, 0);
        pulled(scene, consumer.pull(queue, "*", COUNT, 4), PullStatus.NO_NEW_MSG, COUNT, 0);
        pulled(scene, consumer.pull(queue, "*", COUNT + 5, 4), PullStatus.OFFSET_ILLEGAL, COUNT, 0);
        held(scene, consumer, queue);
        refused(scene, "a missing topic", TOPIC_NOT_EXIST, () -> consumer.pull(new MessageQueue("NoSuchTopic", queue.getBrokerName(), 0), "*", 0, 1));
        refused(scene, "a missing queue", INVALID_PARAMETER, () -> consumer.pull(new MessageQueue(scene.topic, queue.getBrokerName(), 99), "*", 0, 1));
        consumer.shutdown();
    }

    /** A record that is just not in memory ends a reply that has some already: asked again, it is full, and never more than that. */
    private static PullResult fullest(DefaultMQPullConsumer consumer, MessageQueue queue) throws Exception {
        PullResult[] last = new PullResult[1];
        Await.until(FULL_MS, () -> {
            last[0] = consumer.pull(queue, "*", 0, 1_000);
            return last[0].getNextBeginOffset() >= REPLY_MESSAGES_MAX;
        });
        return last[0];
    }

    private static void pulled(Features.Scene scene, PullResult result, PullStatus status, long next, int count) {
        scene.findings.equal(status, result.getPullStatus(), "status of the pull to " + next);
        scene.findings.equal(next, result.getNextBeginOffset(), "next offset of the pull to " + next);
        scene.findings.equal(count, result.getMsgFoundList() == null ? 0 : result.getMsgFoundList().size(), "messages of the pull to " + next);
        scene.findings.equal(0L, result.getMinOffset(), "minimum offset of the pull to " + next);
        scene.findings.equal((long) COUNT, result.getMaxOffset(), "maximum offset of the pull to " + next);
    }

    /** A pull at the end waits as long as it was told, or until a message comes. */
    private static void held(Features.Scene scene, DefaultMQPullConsumer consumer, MessageQueue queue) throws Exception {
        // Whether it has waited long enough, Java's broker looks every 5 s.
        consumer.setBrokerSuspendMaxTimeMillis(1_000);
        long start = System.nanoTime();
        PullResult none = consumer.pullBlockIfNotFound(queue, "*", COUNT, 4);
        long waited = (System.nanoTime() - start) / 1_000_000;
        scene.findings.equal(PullStatus.NO_NEW_MSG, none.getPullStatus(), "status of a pull that waited in vain");
        scene.findings.check(waited >= 1_000 && waited < 8_000, "a pull waited for " + waited + " ms");
        CountDownLatch done = new CountDownLatch(1);
        consumer.setBrokerSuspendMaxTimeMillis(20_000);
        consumer.pullBlockIfNotFound(queue, "*", COUNT, 4, new PullCallback() {
            @Override
            public void onSuccess(PullResult result) {
                scene.findings.equal(PullStatus.FOUND, result.getPullStatus(), "status of a pull that waited");
                done.countDown();
            }

            @Override
            public void onException(Throwable e) {
                scene.findings.fail("a pull that waited: " + e);
                done.countDown();
            }
        });
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-later");
        producer.send(Messages.make(scene.topic, COUNT), queue);
        scene.findings.check(done.await(4, TimeUnit.SECONDS), "a pull that waited was not answered by the message");
        producer.shutdown();
    }

    private interface Step {
        void run() throws Exception;
    }

    private static void refused(Features.Scene scene, String what, int code, Step step) throws Exception {
        try {
            step.run();
            scene.findings.fail("a pull of " + what + " was not refused");
        } catch (MQBrokerException e) {
            scene.findings.equal(code, e.getResponseCode(), "code for a pull of " + what);
        }
    }

    /** A broker whose property filter is off says so when such a consumer starts, and another of tags is not troubled. */
    static void sqlRefused(Features.Scene scene) throws Exception {
        fill(scene, 0);
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-sql");
        consumer.subscribe(scene.topic, MessageSelector.bySql("seq > 3"));
        Clients.listen(consumer, message -> true);
        try {
            consumer.start();
            scene.findings.fail("a consumer with an SQL expression started");
        } catch (MQClientException e) {
            scene.findings.check(e.getMessage().contains("The broker does not support consumer to filter message by SQL92"), "refused with " + e.getMessage());
        } finally {
            consumer.shutdown();
        }
    }

    /** The offset of a time is the first message stored then or later. */
    static void byTime(Features.Scene scene) throws Exception {
        MessageQueue queue = fill(scene, APART_MS);
        DefaultMQPullConsumer consumer = Clients.pullConsumer(scene.namesrv, scene.topic + "-group");
        List<Long> times = new ArrayList<>();
        Clients.readQueue(consumer, queue, message -> times.add(message.getStoreTimestamp()));
        scene.findings.equal(COUNT, times.size(), "messages");
        for (int offset = 0; offset < times.size(); offset++) {
            long time = times.get(offset);
            scene.findings.equal((long) offset, consumer.searchOffset(queue, time), "offset at the time of " + offset);
            scene.findings.equal((long) offset, consumer.searchOffset(queue, time - 1), "offset just before " + offset);
        }
        long last = times.get(times.size() - 1);
        scene.findings.equal(0L, consumer.searchOffset(queue, 0), "offset at time 0");
        scene.findings.equal((long) COUNT, consumer.searchOffset(queue, last + 1), "offset just after the last");
        scene.findings.equal((long) COUNT, consumer.searchOffset(queue, last + 3_600_000), "offset in an hour");
        scene.findings.equal(times.get(0), consumer.earliestMsgStoreTime(queue), "time of the earliest message");
        consumer.shutdown();
    }

    /**
     * Where a new group starts: at the first message of a queue that still has it in memory, whatever it asked for; a
     * group that comes back, where it was, also when it asks for another time.
     */
    static void consumeTimestamp(Features.Scene scene) throws Exception {
        fill(scene, APART_MS);
        for (ConsumeFromWhere where : List.of(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET)) {
            Map<Integer, MessageExt> received = new ConcurrentHashMap<>();
            DefaultMQPushConsumer consumer = from(scene, where, received);
            Await.until(Await.LONG_MS, () -> received.size() >= COUNT);
            consumer.shutdown();
            scene.findings.equal(COUNT, received.size(), "messages of a new group that starts by " + where);
        }
        Map<Integer, MessageExt> again = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = from(scene, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, again);
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-later");
        producer.send(Messages.make(scene.topic, COUNT));
        Await.until(Await.LONG_MS, () -> again.containsKey(COUNT));
        producer.shutdown();
        consumer.shutdown();
        scene.findings.check(again.keySet().equals(java.util.Set.of(COUNT)), "a group that came back received " + again.keySet());
    }

    private static DefaultMQPushConsumer from(Features.Scene scene, ConsumeFromWhere where, Map<Integer, MessageExt> received) throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-" + where);
        consumer.setConsumeFromWhere(where);
        consumer.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(System.currentTimeMillis()));
        consumer.subscribe(scene.topic, "*");
        Clients.listen(consumer, message -> {
            received.put(Messages.seq(message), message);
            return true;
        });
        consumer.start();
        return consumer;
    }
}
