package interop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** A producer of 5.x that gathers single sends into batches; by reflection, since clients of 4.9 cannot. */
final class AutoBatch {
    private static final int THREADS = 16;
    private static final int EACH = 50;

    private final Features.Scene scene;
    private final Map<Integer, SendResult> acknowledged = new ConcurrentHashMap<>();

    private AutoBatch(Features.Scene scene) {
        this.scene = scene;
    }

    static boolean isKnown() {
        try {
            DefaultMQProducer.class.getMethod("setAutoBatch", boolean.class);
            return true;
        } catch (NoSuchMethodException e) {
            return false;
        }
    }

    static void run(Features.Scene scene) throws Exception {
        AutoBatch program = new AutoBatch(scene);
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        Clients.sendFirst(producer, message(scene.topic, 0));
        DefaultMQProducer.class.getMethod("setAutoBatch", boolean.class).invoke(producer, true);
        program.send(producer);
        program.readBack();
        producer.shutdown();
    }

    /** One tag and one key each: only messages that agree in these travel together. */
    private static Message message(String topic, int seq) {
        Message message = Messages.make(topic, seq);
        message.setTags("all");
        return message;
    }

    private void send(DefaultMQProducer producer) throws Exception {
        CountDownLatch done = new CountDownLatch(THREADS * EACH);
        for (int thread = 0; thread < THREADS; thread++) {
            int from = 1 + thread * EACH;
            boolean waits = thread % 2 == 0;
            new Thread(() -> {
                for (int seq = from; seq < from + EACH; seq++) {
                    one(producer, seq, waits, done);
                }
            }, "sender-" + thread).start();
        }
        scene.findings.check(done.await(Await.LONG_MS, TimeUnit.MILLISECONDS), done.getCount() + " sends without an answer");
    }

    private void one(DefaultMQProducer producer, int seq, boolean waits, CountDownLatch done) {
        try {
            if (waits) {
                acknowledged.put(seq, producer.send(message(scene.topic, seq)));
                done.countDown();
                return;
            }
            producer.send(message(scene.topic, seq), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    acknowledged.put(seq, result);
                    done.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    scene.findings.fail("send " + seq + ": " + e);
                    done.countDown();
                }
            });
        } catch (Exception e) {
            scene.findings.fail("send " + seq + ": " + e);
            done.countDown();
        }
    }

    /** Each message once, where its own acknowledgement put it; and some of them did travel together. */
    @SuppressWarnings("deprecation")
    private void readBack() throws Exception {
        AtomicInteger stored = new AtomicInteger();
        Map<Long, Integer> atOneTime = new ConcurrentHashMap<>();
        DefaultMQPullConsumer consumer = Clients.pullConsumer(scene.namesrv, scene.topic + "-reader");
        for (MessageQueue queue : Clients.queues(consumer, scene.topic)) {
            Clients.readQueue(consumer, queue, message -> {
                stored.incrementAndGet();
                atOneTime.merge(message.getStoreTimestamp() * 100 + message.getQueueId(), 1, Integer::sum);
                SendResult result = acknowledged.get(Messages.seq(message));
                if (result != null) {
                    String what = "message " + Messages.seq(message) + " ";
                    scene.findings.equal(result.getMsgId(), message.getMsgId(), what + "id");
                    scene.findings.equal(result.getQueueOffset(), message.getQueueOffset(), what + "queue offset");
                    scene.findings.equal(result.getMessageQueue().getQueueId(), message.getQueueId(), what + "queue");
                } else {
                    scene.findings.equal(0, Messages.seq(message), "a message that was never acknowledged");
                }
            });
        }
        consumer.shutdown();
        scene.findings.equal(THREADS * EACH + 1, stored.get(), "messages stored");
        int largest = atOneTime.values().stream().mapToInt(Integer::intValue).max().orElse(0);
        scene.findings.check(largest > 1, "no two messages were stored together");
    }
}
