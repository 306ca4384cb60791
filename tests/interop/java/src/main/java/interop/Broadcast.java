package interop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/** Every consumer of a broadcasting group gets every message, goes on where it was, and gets none back. */
final class Broadcast {
    private static final int FIRST = 60;
    private static final int SECOND = 40;

    private Broadcast() {
    }

    static void run(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        Map<Integer, Integer> one = new ConcurrentHashMap<>();
        Map<Integer, Integer> two = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumerOne = join(scene, "one", one);
        DefaultMQPushConsumer consumerTwo = join(scene, "two", two);
        for (int seq = 1; seq < FIRST; seq++) {
            producer.send(Messages.make(scene.topic, seq));
        }
        Await.until(Await.LONG_MS, () -> one.size() >= FIRST && two.size() >= FIRST);
        received(scene, "one", one, FIRST);
        received(scene, "two", two, FIRST);
        consumerOne.shutdown();
        one.clear();
        for (int seq = FIRST; seq < FIRST + SECOND; seq++) {
            producer.send(Messages.make(scene.topic, seq));
        }
        Await.until(Await.LONG_MS, () -> two.size() >= FIRST + SECOND);
        received(scene, "two", two, FIRST + SECOND);
        DefaultMQPushConsumer again = join(scene, "one", one);
        Await.until(Await.LONG_MS, () -> one.size() >= SECOND);
        received(scene, "one after its return", one, SECOND);
        again.shutdown();
        consumerTwo.shutdown();
        producer.shutdown();
    }

    private static DefaultMQPushConsumer join(Features.Scene scene, String name, Map<Integer, Integer> received) throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-group");
        broadcasting(consumer);
        consumer.setInstanceName(scene.topic + "-" + name);
        consumer.subscribe(scene.topic, "*");
        Clients.listen(consumer, message -> {
            received.merge(Messages.seq(message), 1, Integer::sum);
            // What a broadcasting consumer refuses is dropped.
            return Messages.seq(message) % 20 != 7;
        });
        consumer.start();
        return consumer;
    }

    /** {@code setMessageModel(BROADCASTING)}; by reflection, since the two lines have that type in different packages. */
    private static void broadcasting(DefaultMQPushConsumer consumer) throws Exception {
        Object model = DefaultMQPushConsumer.class.getMethod("getMessageModel").invoke(consumer);
        Class<?> type = model.getClass();
        Object broadcasting = type.getMethod("valueOf", String.class).invoke(null, "BROADCASTING");
        DefaultMQPushConsumer.class.getMethod("setMessageModel", type).invoke(consumer, broadcasting);
    }

    private static void received(Features.Scene scene, String name, Map<Integer, Integer> received, int count) {
        scene.findings.equal(count, received.size(), "messages received by " + name);
        scene.findings.equal(count, received.values().stream().mapToInt(Integer::intValue).sum(), "deliveries to " + name);
    }
}
