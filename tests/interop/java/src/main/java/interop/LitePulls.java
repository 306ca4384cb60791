package interop;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The lite pull consumer: with queues that the group shares, and with queues of its own choice. */
final class LitePulls {
    private static final int COUNT = 120;
    private static final long POLL_MS = 200;
    private static final long SETTLE_MS = 500;

    private LitePulls() {
    }

    private static DefaultLitePullConsumer consumer(Features.Scene scene, String group) {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(scene.topic + "-" + group);
        consumer.setNamesrvAddr(scene.namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setHeartbeatBrokerInterval(3_000);
        return consumer;
    }

    /** Two of one group share the queues; what one committed at its end, the next one does not get. */
    static void subscribed(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        List<DefaultLitePullConsumer> consumers = List.of(consumer(scene, "group"), consumer(scene, "group"));
        for (DefaultLitePullConsumer consumer : consumers) {
            consumer.subscribe(scene.topic, "*");
            consumer.setAutoCommit(false);
            consumer.start();
        }
        for (int seq = 1; seq < COUNT; seq++) {
            producer.send(Messages.make(scene.topic, seq));
        }
        Set<Integer> seqs = new HashSet<>();
        Await.until(Await.LONG_MS, () -> {
            for (DefaultLitePullConsumer consumer : consumers) {
                take(scene, consumer, seqs);
            }
            return seqs.size() >= COUNT;
        });
        scene.findings.equal(COUNT, seqs.size(), "messages of two consumers together");
        consumers.forEach(DefaultLitePullConsumer::commitSync);
        consumers.forEach(DefaultLitePullConsumer::shutdown);
        for (int seq = COUNT; seq < COUNT + 8; seq++) {
            producer.send(Messages.make(scene.topic, seq));
        }
        DefaultLitePullConsumer next = consumer(scene, "group");
        next.subscribe(scene.topic, "*");
        next.start();
        Set<Integer> rest = new HashSet<>();
        Await.until(Await.LONG_MS, () -> {
            take(scene, next, rest);
            return rest.size() >= 8;
        });
        scene.findings.equal(8, rest.size(), "messages after the committed ones");
        scene.findings.check(rest.stream().allMatch(seq -> seq >= COUNT), "received again: " + rest);
        next.shutdown();
        producer.shutdown();
    }

    private static void take(Features.Scene scene, DefaultLitePullConsumer consumer, Set<Integer> seqs) {
        for (MessageExt message : consumer.poll(POLL_MS)) {
            Messages.verify(message, scene.topic, scene.findings);
            seqs.add(Messages.seq(message));
        }
    }

    /** One queue, read from where it is told: seek, both ends, by time, paused; and what it commits. */
    static void assigned(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        SendResult first = Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        for (int seq = 1; seq < COUNT; seq++) {
            producer.send(Messages.make(scene.topic, seq), first.getMessageQueue());
        }
        DefaultLitePullConsumer consumer = consumer(scene, "group");
        consumer.setAutoCommit(false);
        consumer.start();
        Collection<MessageQueue> all = consumer.fetchMessageQueues(scene.topic);
        MessageQueue queue = all.stream().filter(one -> one.getQueueId() == first.getMessageQueue().getQueueId()).findFirst().orElseThrow();
        List<MessageQueue> mine = List.of(queue);
        consumer.assign(mine);
        // The answer to a pull that is under way while the client seeks may be taken for the new place's: let it come first.
        consumer.pause(mine);
        Await.pause(SETTLE_MS);
        consumer.seek(queue, 100);
        consumer.resume(mine);
        offsets(scene, consumer, "seek to 100", 100, COUNT - 100);
        consumer.seekToBegin(queue);
        offsets(scene, consumer, "seek to the beginning", 0, COUNT);
        consumer.commitSync();
        scene.findings.check(Await.until(Await.LONG_MS, () -> consumer.committed(queue) == COUNT), "committed " + consumer.committed(queue));
        consumer.pause(mine);
        consumer.seek(queue, 50);
        scene.findings.equal(0, consumer.poll(POLL_MS).size(), "messages of a paused queue");
        consumer.resume(mine);
        offsets(scene, consumer, "resumed at 50", 50, COUNT - 50);
        scene.findings.equal(0L, consumer.offsetForTimestamp(queue, 0L), "offset of time 0");
        scene.findings.equal((long) COUNT, consumer.offsetForTimestamp(queue, System.currentTimeMillis() + 3_600_000), "offset of an hour from now");
        consumer.seekToEnd(queue);
        producer.send(Messages.make(scene.topic, COUNT), first.getMessageQueue());
        offsets(scene, consumer, "the end", COUNT, 1);
        consumer.shutdown();
        producer.shutdown();
    }

    /** Exactly the next {@code count} offsets from {@code from} on. */
    private static void offsets(Features.Scene scene, DefaultLitePullConsumer consumer, String what, long from, int count) throws Exception {
        List<Long> offsets = new ArrayList<>();
        Await.until(Await.LONG_MS / 3, () -> {
            consumer.poll(POLL_MS).forEach(message -> offsets.add(message.getQueueOffset()));
            return offsets.size() >= count;
        });
        scene.findings.equal(count, offsets.size(), what + ": messages");
        for (int i = 0; i < offsets.size(); i++) {
            scene.findings.equal(from + i, offsets.get(i), what + ": offset of message " + i);
        }
    }
}
