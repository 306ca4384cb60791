package interop;

import java.util.Arrays;
import java.util.SplittableRandom;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Small, compressed and large bodies, and those that a broker refuses. */
final class Bodies {
    private static final int MIB = 1 << 20;
    private static final int LIMIT = 4 * MIB;
    private static final int MESSAGE_ILLEGAL = 13;

    private Bodies() {
    }

    static void accepted(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        producer.setMaxMessageSize(2 * LIMIT);
        Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        roundTrip(scene, producer, "one byte", new byte[] {7}, false);
        roundTrip(scene, producer, "at the client's limit of compression", even(4_096), true);
        roundTrip(scene, producer, "compressed", even(100_000), true);
        // What compresses well may be larger than the limit: the broker never sees it unpacked.
        roundTrip(scene, producer, "compressed, 6 MiB", even(6 * MIB), true);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        roundTrip(scene, producer, "64 KiB as it is", random(65_536), false);
        roundTrip(scene, producer, "4 MiB as it is", random(LIMIT), false);
        producer.shutdown();
    }

    private static void roundTrip(Features.Scene scene, DefaultMQProducer producer, String what, byte[] body, boolean compressed) throws Exception {
        // The client packs the body of the message that it is given, and gives it back afterwards.
        SendResult sent = producer.send(new Message(scene.topic, "tag", body.clone()));
        MessageExt read = producer.viewMessage(scene.topic, sent.getOffsetMsgId());
        scene.findings.check(Arrays.equals(body, read.getBody()), what + ": the body came back different");
        // Clients of 5.x clear the flag when they unpack.
        scene.findings.equal(compressed, read.getStoreSize() < body.length, what + ": is stored compressed");
        scene.findings.equal(sent.getQueueOffset(), read.getQueueOffset(), what + ": queue offset");
    }

    /** By the client where it knows the limit, by the broker where it does not; neither leaves anything in a queue. */
    static void refused(Features.Scene scene) throws Exception {
        DefaultMQProducer producer = Clients.producer(scene.namesrv, scene.topic + "-producer");
        SendResult first = Clients.sendFirst(producer, Messages.make(scene.topic, 0));
        MessageQueue queue = first.getMessageQueue();
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        try {
            producer.send(new Message(scene.topic, new byte[LIMIT + 1]), queue);
            scene.findings.fail("the client sent a body over its limit");
        } catch (MQClientException e) {
            scene.findings.equal(MESSAGE_ILLEGAL, e.getResponseCode(), "the client's code for a body over its limit");
        }
        producer.setMaxMessageSize(2 * LIMIT);
        byBroker(scene, producer, queue, "a body of 4 MiB and a byte", new Message(scene.topic, new byte[LIMIT + 1]));
        byBroker(scene, producer, queue, "a body of 5 MiB", new Message(scene.topic, new byte[5 * MIB]));
        Message wide = new Message(scene.topic, new byte[] {1});
        wide.putUserProperty("wide", "x".repeat(32_768));
        byBroker(scene, producer, queue, "properties over 32767 bytes", wide);
        Message nearly = new Message(scene.topic, new byte[] {1});
        nearly.putUserProperty("wide", "x".repeat(32_000));
        SendResult next = producer.send(nearly, queue);
        scene.findings.equal(first.getQueueOffset() + 1, next.getQueueOffset(), "queue offset after what was refused");
        refusedNames(scene, producer);
        producer.shutdown();
    }

    private static void byBroker(Features.Scene scene, DefaultMQProducer producer, MessageQueue queue, String what, Message message) throws Exception {
        try {
            producer.send(message, queue);
            scene.findings.fail(what + " was taken");
        } catch (MQBrokerException e) {
            scene.findings.equal(MESSAGE_ILLEGAL, e.getResponseCode(), "the code for " + what);
            scene.findings.check(e.getErrorMessage().startsWith("the message is illegal"), "the remark for " + what + ": " + e.getErrorMessage());
        }
    }

    /** Topics that belong to the broker are closed to senders, at the client or at the broker. */
    private static void refusedNames(Features.Scene scene, DefaultMQProducer producer) throws Exception {
        for (String topic : new String[] {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "bad topic", "t".repeat(128)}) {
            try {
                producer.send(new Message(topic, new byte[] {1}));
                scene.findings.fail("a message for " + topic + " was taken");
            } catch (MQClientException e) {
                scene.findings.check(e.getErrorMessage() != null || e.getMessage() != null, "no reason for " + topic);
            }
        }
    }

    private static byte[] even(int size) {
        byte[] body = new byte[size];
        for (int i = 0; i < size; i++) {
            body[i] = (byte) ('a' + i % 23);
        }
        return body;
    }

    private static byte[] random(int size) {
        byte[] body = new byte[size];
        SplittableRandom random = new SplittableRandom(size);
        for (int i = 0; i < size; i += 8) {
            long bits = random.nextLong();
            for (int j = 0; j < 8; j++) {
                body[i + j] = (byte) (bits >> 8 * j);
            }
        }
        return body;
    }
}
