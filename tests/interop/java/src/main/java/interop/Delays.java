package interop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;

/** When messages arrive: delayed ones at their time, others at once, though the consumer's pull was there before them. */
final class Delays {
    private static final long LATE_MS = 2_000;
    private static final long AT_ONCE_MS = 1_000;
    private static final int COUNT = 20;
    private static final long[] LEVELS_MS = {0, 1_000, 5_000, 10_000};

    private Delays() {
    }

    static void levels(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        Map<Integer, MessageExt> received = new ConcurrentHashMap<>();
        Map<Integer, Long> arrived = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = receive(scene, received, arrived);
        Await.until(Await.LONG_MS, () -> received.containsKey(0));
        Map<Integer, Long> sent = new ConcurrentHashMap<>();
        for (int seq = 1; seq <= 3 * COUNT; seq++) {
            Message message = Messages.make(scene.topic, seq);
            message.setDelayTimeLevel(1 + seq % 3);
            sent.put(seq, System.currentTimeMillis());
            producer.send(message);
        }
        Await.until(Await.LONG_MS, () -> received.size() > 3 * COUNT);
        scene.findings.equal(3 * COUNT + 1, received.size(), "messages received");
        long latest = 0;
        for (int seq = 1; seq <= 3 * COUNT && received.containsKey(seq); seq++) {
            long delay = LEVELS_MS[1 + seq % 3];
            long waited = arrived.get(seq) - sent.get(seq);
            latest = Math.max(latest, waited - delay);
            scene.findings.check(waited >= delay && waited <= delay + LATE_MS, "message " + seq + " after " + waited + " ms, not " + delay);
            MessageExt message = received.get(seq);
            Messages.verify(message, scene.topic, scene.findings);
            scene.findings.equal(1 + seq % 3, message.getDelayTimeLevel(), "message " + seq + " level");
            scene.findings.equal(scene.topic, message.getProperty(MessageConst.PROPERTY_REAL_TOPIC), "message " + seq + " real topic");
        }
        scene.findings.note("at most " + latest + " ms late");
        consumer.shutdown();
        producer.shutdown();
    }

    static void longPolling(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        Map<Integer, MessageExt> received = new ConcurrentHashMap<>();
        Map<Integer, Long> arrived = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = receive(scene, received, arrived);
        Await.until(Await.LONG_MS, () -> received.containsKey(0));
        // Its queues join one after the other; a message of each tells that they have.
        for (int seq = 1; seq < COUNT; seq++) {
            producer.send(Messages.make(scene.topic, seq));
        }
        Await.until(Await.LONG_MS, () -> received.size() == COUNT);
        int late = 0;
        long latest = 0;
        for (int seq = COUNT; seq < 2 * COUNT; seq++) {
            int one = seq;
            long start = System.currentTimeMillis();
            producer.send(Messages.make(scene.topic, seq));
            Await.until(Await.LONG_MS, () -> arrived.containsKey(one));
            long waited = arrived.getOrDefault(seq, start + Await.LONG_MS) - start;
            late += waited > AT_ONCE_MS ? 1 : 0;
            latest = Math.max(latest, waited);
        }
        // A pull that just ended is asked again a little later: one may miss it on a busy machine, not several.
        scene.findings.check(late <= 1, late + " of " + COUNT + " messages more than " + AT_ONCE_MS + " ms under way");
        scene.findings.note("at most " + latest + " ms under way");
        consumer.shutdown();
        producer.shutdown();
    }

    private static DefaultMQPushConsumer receive(Features.Scene scene, Map<Integer, MessageExt> received, Map<Integer, Long> arrived) throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-group");
        consumer.subscribe(scene.topic, "*");
        Clients.listen(consumer, message -> {
            arrived.putIfAbsent(Messages.seq(message), System.currentTimeMillis());
            scene.findings.check(received.put(Messages.seq(message), message) == null, "message " + Messages.seq(message) + " twice");
            return true;
        });
        consumer.start();
        return consumer;
    }
}
