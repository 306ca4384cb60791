package interop;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.zip.CRC32;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Messages whose every part follows from a sequence number, so that a receiver can check all of one it has never seen:
 * body (of many sizes, some above the client's compression threshold), two keys, one of four tags, flag, user
 * properties with text outside ASCII.
 */
final class Messages {
    static final int TAGS = 4;
    /** Above the client's 4,096 bytes: it compresses the body, and the broker must store and serve that as it came. */
    private static final int COMPRESSED_BYTES = 6_000;
    private static final int COMPRESSED_EVERY = 250;
    private static final int LARGE_BYTES = 1 << 20;
    private static final int LARGE_AT = 777;
    /** Added to each body: {@code -Dinterop.bodyBytes=1000000} fills a segment of 1 GiB with a thousand messages. */
    private static final int MORE_BYTES = Integer.getInteger("interop.bodyBytes", 0);

    private Messages() {
    }

    static Message make(String topic, int seq) {
        Message message = new Message(topic, tag(seq), body(seq));
        message.setKeys(keys(seq));
        message.setFlag(seq);
        message.putUserProperty("seq", Integer.toString(seq));
        message.putUserProperty("text", text(seq));
        return message;
    }

    static String tag(int seq) {
        return "tag" + seq % TAGS;
    }

    static String keys(int seq) {
        return "key-" + seq + " group-" + seq % 10;
    }

    static String text(int seq) {
        return "Grüße, 漢字 🚪 " + seq;
    }

    static int seq(MessageExt message) {
        String text = message.getUserProperty("seq");
        return text == null ? -1 : Integer.parseInt(text);
    }

    /** Whether it is exactly what {@link #make} gave for its own sequence number. */
    static void verify(MessageExt message, String topic, Findings findings) {
        int seq = seq(message);
        String what = topic + " message " + seq + " (queue " + message.getQueueId() + " offset " + message.getQueueOffset() + ") ";
        findings.check(seq >= 0, what + "has no seq property");
        if (seq < 0) {
            return;
        }
        findings.equal(topic, message.getTopic(), what + "topic");
        findings.equal(tag(seq), message.getTags(), what + "tags");
        findings.equal(keys(seq), message.getKeys(), what + "keys");
        findings.equal(seq, message.getFlag(), what + "flag");
        findings.equal(text(seq), message.getUserProperty("text"), what + "property text");
        findings.check(Arrays.equals(body(seq), message.getBody()), what + "body differs");
    }

    static long crc(byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return crc.getValue();
    }

    private static byte[] body(int seq) {
        if (seq % COMPRESSED_EVERY == COMPRESSED_EVERY - 1) {
            byte[] body = new byte[COMPRESSED_BYTES];
            byte[] line = ("line of message " + seq + "\n").getBytes(StandardCharsets.UTF_8);
            for (int i = 0; i < body.length; i++) {
                body[i] = line[i % line.length];
            }
            return body;
        }
        byte[] body = new byte[MORE_BYTES + (seq == LARGE_AT ? LARGE_BYTES : 1 + seq * 37 % 700)];
        SplittableRandom random = new SplittableRandom(seq);
        for (int i = 0; i < body.length; i++) {
            body[i] = (byte) random.nextInt();
        }
        return body;
    }
}
