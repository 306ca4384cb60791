package interop;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;

/** Request and reply between two producers and one who answers; a request that nobody answers ends in time. */
final class Replies {
    private static final int REQUESTS = 10;
    private static final long FIRST_HEARTBEAT_MS = 2_000;
    private static final long TIMEOUT_MS = 30_000;
    private static final long SHORT_MS = 1_500;

    private Replies() {
    }

    static void run(Features.Scene scene) throws Exception {
        DefaultMQProducer one = Clients.producer(scene.namesrv, scene.topic + "-one");
        DefaultMQProducer two = Clients.producer(scene.namesrv, scene.topic + "-two");
        DefaultMQProducer replier = Clients.producer(scene.namesrv, scene.topic + "-replier");
        // A client tells a broker that it is there with its first request to a topic it has no route of, or every 30 s, the first
        // time a second after its start; a request that meets that one is sent before the broker knows whom to give the reply.
        Clients.sendFirst(replier, new Message(scene.topic, "warm", new byte[] {1}));
        Await.pause(FIRST_HEARTBEAT_MS);
        DefaultMQPushConsumer consumer = Clients.pushConsumer(scene.namesrv, scene.topic + "-group");
        consumer.subscribe(scene.topic, "request");
        Clients.listen(consumer, message -> {
            try {
                String asked = new String(message.getBody(), StandardCharsets.UTF_8);
                Message reply = MessageUtil.createReplyMessage(message, ("reply to " + asked).getBytes(StandardCharsets.UTF_8));
                reply.putUserProperty("of", asked);
                replier.send(reply);
            } catch (Exception e) {
                scene.findings.fail("a reply: " + e);
            }
            return true;
        });
        consumer.start();
        for (int number = 0; number < REQUESTS; number++) {
            reply(scene, "one" + number, one.request(request(scene, "request", "one" + number), TIMEOUT_MS));
            reply(scene, "two" + number, two.request(request(scene, "request", "two" + number), TIMEOUT_MS));
        }
        withCallbacks(scene, one);
        long start = System.nanoTime();
        try {
            one.request(request(scene, "nobody", "x"), SHORT_MS);
            scene.findings.fail("a request without a reply came back");
        } catch (RequestTimeoutException e) {
            long waited = (System.nanoTime() - start) / 1_000_000;
            scene.findings.check(waited >= SHORT_MS - 10, "gave up after " + waited + " ms");
        }
        consumer.shutdown();
        one.shutdown();
        two.shutdown();
        replier.shutdown();
    }

    private static Message request(Features.Scene scene, String tag, String text) {
        return new Message(scene.topic, tag, text.getBytes(StandardCharsets.UTF_8));
    }

    private static void reply(Features.Scene scene, String asked, Message reply) {
        scene.findings.equal("reply to " + asked, new String(reply.getBody(), StandardCharsets.UTF_8), "the reply");
        scene.findings.equal(asked, reply.getUserProperty("of"), "the reply's property");
    }

    private static void withCallbacks(Features.Scene scene, DefaultMQProducer producer) throws Exception {
        CountDownLatch done = new CountDownLatch(REQUESTS);
        for (int number = 0; number < REQUESTS; number++) {
            String asked = "later" + number;
            producer.request(request(scene, "request", asked), new RequestCallback() {
                @Override
                public void onSuccess(Message reply) {
                    reply(scene, asked, reply);
                    done.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    scene.findings.fail(asked + ": " + e);
                    done.countDown();
                }
            }, TIMEOUT_MS);
        }
        scene.findings.check(done.await(Await.LONG_MS, TimeUnit.MILLISECONDS), done.getCount() + " requests without an answer");
    }
}
