package interop;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What is not consumed comes again, later and later, and ends in the group's dead-letter queue. */
final class Retries {
    private static final int POISON = 3;
    private static final int COUNT = 8;
    /** How late a retry may be on a busy machine. */
    private static final long LATE_MS = 3_000;
    /** Clocks of two threads, rounded to milliseconds. */
    private static final long EARLY_MS = 20;

    private final Features.Scene scene;
    private final String group;
    /** As delivered: the client counts on in the message itself when it retries in order. */
    private final List<Integer> counts = Collections.synchronizedList(new ArrayList<>());
    private final List<MessageExt> poison = Collections.synchronizedList(new ArrayList<>());
    private final List<Long> times = Collections.synchronizedList(new ArrayList<>());
    private final Map<Integer, Integer> others = new ConcurrentHashMap<>();
    private boolean inOrder;
    private String id;

    private Retries(Features.Scene scene) {
        this.scene = scene;
        this.group = scene.topic + "-group";
    }

    /** The broker chooses: 10 s, then 30 s, and after the configured two retries the message is dead. */
    static void growing(Features.Scene scene) throws Exception {
        Retries retries = new Retries(scene);
        DefaultMQPushConsumer consumer = retries.consumer(2);
        Clients.listen(consumer, retries::consume, 0);
        retries.run(consumer, 3, new long[] {10_000, 30_000});
        retries.retryTopic(2, new int[] {3, 4});
    }

    /** The consumer chooses: one second each time, three times. */
    static void chosen(Features.Scene scene) throws Exception {
        Retries retries = new Retries(scene);
        DefaultMQPushConsumer consumer = retries.consumer(3);
        Clients.listen(consumer, retries::consume, 1);
        retries.run(consumer, 4, new long[] {1_000, 1_000, 1_000});
        retries.retryTopic(3, new int[] {1, 1, 1});
        atOnce(new Features.Scene(scene.namesrv, scene.topic + "-dead", scene.findings));
    }

    /** Dead at the first failure, since the consumer says so. */
    private static void atOnce(Features.Scene scene) throws Exception {
        Retries retries = new Retries(scene);
        DefaultMQPushConsumer consumer = retries.consumer(16);
        Clients.listen(consumer, retries::consume, -1);
        retries.run(consumer, 1, new long[] {});
    }

    /** In order: retried in its place, with its successors waiting, then sent away by the client. */
    static void orderly(Features.Scene scene) throws Exception {
        Retries retries = new Retries(scene);
        DefaultMQPushConsumer consumer = retries.consumer(2);
        retries.inOrder = true;
        consumer.setSuspendCurrentQueueTimeMillis(500);
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) ->
            messages.stream().allMatch(retries::consume) ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT);
        retries.run(consumer, 3, new long[] {500, 500});
    }

    private DefaultMQPushConsumer consumer(int maxTimes) throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, group);
        // The retry topic of a new group is taken up at a refresh of routes, by default up to 30 s later.
        consumer.setPollNameServerInterval(500);
        consumer.setMaxReconsumeTimes(maxTimes);
        consumer.subscribe(scene.topic, "*");
        return consumer;
    }

    private boolean consume(MessageExt message) {
        Messages.verify(message, scene.topic, scene.findings);
        if (Messages.seq(message) != POISON) {
            others.merge(Messages.seq(message), 1, Integer::sum);
            return true;
        }
        counts.add(message.getReconsumeTimes());
        poison.add(message);
        times.add(System.currentTimeMillis());
        return false;
    }

    private void run(DefaultMQPushConsumer consumer, int deliveries, long[] delays) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        SendResult first = Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        consumer.start();
        for (int seq = 1; seq < COUNT; seq++) {
            // One queue: its later messages show whether the poison holds them up.
            SendResult sent = producer.send(Messages.make(scene.topic, seq), first.getMessageQueue());
            id = seq == POISON ? sent.getMsgId() : id;
        }
        long[] end = new long[1];
        boolean dead = Await.until(Await.LONG_MS, () -> (end[0] = deadLetters()) > 0);
        scene.findings.check(dead, "no dead letter after " + poison.size() + " deliveries");
        Await.until(Await.LONG_MS, () -> others.size() == COUNT - 1);
        consumer.shutdown();
        producer.shutdown();
        scene.findings.equal(COUNT - 1, others.size(), "other messages consumed");
        scene.findings.check(others.values().stream().allMatch(count -> count == 1), "others delivered more than once: " + others);
        scene.findings.equal(deliveries, poison.size(), "deliveries of the message that is never consumed");
        for (int time = 0; time < Math.min(poison.size(), deliveries); time++) {
            scene.findings.equal(time, counts.get(time), "reconsume times of delivery " + time);
            scene.findings.equal(id, poison.get(time).getMsgId(), "id of delivery " + time);
            if (time > 0) {
                // A client takes a new retry topic up at its next rebalance, up to 20 s later: what counts is when the broker
                // stored the retry, where it did.
                long came = inOrder ? times.get(time) : poison.get(time).getStoreTimestamp();
                long waited = came - times.get(time - 1);
                long delay = delays[time - 1];
                scene.findings.check(waited >= delay - EARLY_MS && waited <= delay + LATE_MS, "delivery " + time + " after " + waited + " ms, not " + delay);
            }
        }
        deadLetter();
    }

    @SuppressWarnings("deprecation")
    private long deadLetters() throws Exception {
        DefaultMQPullConsumer reader = Clients.pullConsumer(scene.namesrv, scene.topic + "-reader");
        try {
            long count = 0;
            for (MessageQueue queue : reader.fetchSubscribeMessageQueues("%DLQ%" + group)) {
                count += reader.maxOffset(queue);
            }
            return count;
        } catch (Exception e) {
            Await.pause(200); // there is no such topic yet
            return 0;
        } finally {
            reader.shutdown();
        }
    }

    /** One dead letter, with all that the message was, and where it came from. */
    private void deadLetter() throws Exception {
        List<MessageExt> dead = read("%DLQ%" + group, 1);
        scene.findings.equal(1, dead.size(), "dead letters");
        for (MessageExt message : dead) {
            scene.findings.equal(POISON, Messages.seq(message), "the dead letter");
            scene.findings.equal(Messages.tag(POISON), message.getTags(), "the dead letter's tags");
            scene.findings.equal(Messages.keys(POISON), message.getKeys(), "the dead letter's keys");
            scene.findings.equal(scene.topic, message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC), "the dead letter's first topic");
            scene.findings.equal(id, message.getMsgId(), "the dead letter's id");
            scene.findings.check(message.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID) != null, "the dead letter has no origin");
            scene.findings.note("dead letter after " + poison.size() + " deliveries: reconsumed " + message.getReconsumeTimes()
                + ", DELAY " + message.getProperty(MessageConst.PROPERTY_DELAY_TIME_LEVEL));
        }
    }

    /** The retry topic has one queue and in it each retry, counted and with its level. */
    private void retryTopic(int count, int[] levels) throws Exception {
        List<MessageExt> retries = read("%RETRY%" + group, 1);
        scene.findings.equal(count, retries.size(), "messages in the retry topic");
        for (int i = 0; i < retries.size(); i++) {
            MessageExt message = retries.get(i);
            scene.findings.equal((long) i, message.getQueueOffset(), "retry " + i + " queue offset");
            scene.findings.equal(i + 1, message.getReconsumeTimes(), "retry " + i + " reconsume times");
            scene.findings.equal(scene.topic, message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC), "retry " + i + " first topic");
            scene.findings.equal(String.valueOf(levels[i]), message.getProperty(MessageConst.PROPERTY_DELAY_TIME_LEVEL), "retry " + i + " level");
        }
    }

    @SuppressWarnings("deprecation")
    private List<MessageExt> read(String topic, int queues) throws Exception {
        List<MessageExt> all = new ArrayList<>();
        DefaultMQPullConsumer reader = Clients.pullConsumer(scene.namesrv, scene.topic + "-reader");
        List<MessageQueue> found = Clients.queues(reader, topic);
        scene.findings.equal(queues, found.size(), "queues of " + topic);
        for (MessageQueue queue : found) {
            Clients.readQueue(reader, queue, all::add);
        }
        reader.shutdown();
        return all;
    }
}
