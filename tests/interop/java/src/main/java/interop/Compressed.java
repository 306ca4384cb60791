package interop;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Bodies compressed in each way that clients know, for a client of another language or from one. {@code --mode send} sends one message
 * of each and reads them back, {@code --mode read} reads those of {@code --topic}. The property {@code kind} of a message says how its
 * body must be compressed; the body is the same in all of them.
 */
final class Compressed {
    /** By their number in the flags of a message, from 1 on. */
    private static final String[] KINDS = {"LZ4", "ZSTD", "ZLIB"};
    private static final int SIZE = 50_000;

    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final String mode;

    Compressed(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("topic");
        this.mode = options.text("mode");
    }

    void run() throws Exception {
        if (mode.equals("send")) {
            send();
        }
        read();
    }

    private void send() throws Exception {
        for (String kind : KINDS) {
            // Looked at when a producer is made, by clients since 5.0.
            System.setProperty("rocketmq.message.compressType", kind);
            DefaultMQProducer producer = Clients.producer(namesrv, topic + "-" + kind);
            Message message = new Message(topic, body());
            message.putUserProperty("kind", kind);
            Clients.sendFirst(producer, message);
            producer.shutdown();
        }
    }

    @SuppressWarnings("deprecation")
    private void read() throws Exception {
        DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, "Compressed");
        Map<String, MessageExt> found = new TreeMap<>();
        for (MessageQueue queue : Clients.queues(consumer, topic)) {
            Clients.readQueue(consumer, queue, message -> found.put(message.getUserProperty("kind"), message));
        }
        for (int i = 0; i < KINDS.length; i++) {
            MessageExt message = found.get(KINDS[i]);
            if (message == null) {
                findings.fail("no message of kind " + KINDS[i]);
                continue;
            }
            findings.check(Arrays.equals(body(), message.getBody()), KINDS[i] + ": the body came back different");
            findings.check(message.getStoreSize() < SIZE, KINDS[i] + ": is stored as it was, " + message.getStoreSize() + " bytes");
            findings.equal(i + 1, message.getSysFlag() >> 8 & 7, KINDS[i] + ": the algorithm in the flags");
            findings.note(KINDS[i] + ": " + message.getStoreSize() + " bytes stored");
        }
        consumer.shutdown();
    }

    private static byte[] body() {
        byte[] body = new byte[SIZE];
        for (int i = 0; i < SIZE; i++) {
            body[i] = (byte) ('a' + (i + i / 1_000) % 23);
        }
        return body;
    }
}
