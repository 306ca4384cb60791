package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A producer that sends what has one key to one queue, and consumers of one group that take queues in order, one of them
 * stopped in the middle and started again.
 *
 * <p>Checked, for each queue over all consumers: never two at work on it at once, never a message before its predecessor
 * was consumed (also not when that was given back), none left out; and for each key the order of sending.
 */
final class Order {
    private static final int KEYS = 16;
    private static final int COUNT = 1_600;
    private static final int GIVEN_BACK = 333;

    private final Features.Scene scene;
    private final Map<Integer, Long> consumed = new ConcurrentHashMap<>();
    private final Map<Integer, Integer> lastOfKey = new ConcurrentHashMap<>();
    private final Set<Integer> busy = ConcurrentHashMap.newKeySet();
    private final Set<Integer> seen = ConcurrentHashMap.newKeySet();
    private final AtomicInteger deliveries = new AtomicInteger();
    private final AtomicInteger givenBack = new AtomicInteger();

    Order(Features.Scene scene) {
        this.scene = scene;
    }

    void run() throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        // Its first message makes the topic; consumers that start later see its route at once.
        Clients.sendFirst(producer, Messages.make(scene.topic, 0), message -> producer.send(message, new SelectMessageQueueByHash(), 0));
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        consumers.add(join());
        if (AutoBatch.isKnown()) {
            // A queue that goes from one living consumer of 4.9 to another stays locked until its lock expires, after 60 s.
            consumers.add(join());
        }
        for (int seq = 1; seq < COUNT; seq++) {
            producer.send(Messages.make(scene.topic, seq), new SelectMessageQueueByHash(), seq % KEYS);
            if (seq == COUNT / 2) {
                Await.until(Await.LONG_MS, () -> seen.size() > COUNT / 4);
                consumers.remove(0).shutdown();
                consumers.add(join());
            }
        }
        scene.findings.check(Await.until(Await.LONG_MS, () -> seen.size() == COUNT), seen.size() + " of " + COUNT + " received");
        consumers.forEach(DefaultMQPushConsumer::shutdown);
        producer.shutdown();
        scene.findings.equal(2, givenBack.get(), "times that a message was given back");
        scene.findings.check(consumed.size() > 1, "all keys went to one queue");
        scene.findings.note(deliveries + " deliveries of " + COUNT + " messages in " + consumed.size() + " queues");
    }

    private DefaultMQPushConsumer join() throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-group");
        consumer.subscribe(scene.topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            for (MessageExt message : messages) {
                if (!consume(message)) {
                    return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                }
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private boolean consume(MessageExt message) {
        int queue = message.getQueueId();
        int seq = Messages.seq(message);
        String what = "queue " + queue + " offset " + message.getQueueOffset();
        scene.findings.check(busy.add(queue), what + ": two at work on it");
        try {
            deliveries.incrementAndGet();
            long before = consumed.getOrDefault(queue, -1L);
            scene.findings.check(message.getQueueOffset() <= before + 1, what + " after " + before);
            if (seq == GIVEN_BACK && givenBack.get() < 2) {
                givenBack.incrementAndGet();
                return false;
            }
            if (message.getQueueOffset() > before) {
                consumed.put(queue, message.getQueueOffset());
                Integer last = lastOfKey.put(seq % KEYS, seq);
                scene.findings.equal(last == null ? seq % KEYS : last + KEYS, seq, "the next message of key " + seq % KEYS);
            }
            seen.add(seq);
            return true;
        } finally {
            busy.remove(queue);
        }
    }
}
