package interop;

import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Reads a topic from its first to its last offset and compares it with the acknowledgements in the file {@code --acked}:
 * each acknowledged message lies at the place its acknowledgement named, intact; no place holds two messages; no offset
 * between a queue's first and last is missing; nothing was stored twice.
 */
final class ReadBack {
    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final String acked;

    ReadBack(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("topic", "Durable");
        this.acked = options.text("acked");
    }

    @SuppressWarnings("deprecation")
    void run() throws Exception {
        DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, "ReadBack");
        Map<String, MessageExt> stored = new HashMap<>();
        Set<String> ids = new HashSet<>();
        for (MessageQueue queue : Clients.queues(consumer, topic)) {
            int before = stored.size();
            long[] range = Clients.readQueue(consumer, queue, message -> {
                String place = place(queue, message.getQueueOffset());
                findings.check(stored.put(place, message) == null, "two messages at " + place);
                findings.check(ids.add(message.getMsgId()), "stored twice: " + message.getMsgId() + ", again at " + place);
                Messages.verify(message, topic, findings);
            });
            findings.equal(range[1] - range[0], (long) stored.size() - before, "messages between the ends of " + queue);
            for (long offset = range[0]; offset < range[1]; offset++) {
                String place = place(queue, offset);
                findings.check(stored.containsKey(place), "nothing at " + place);
            }
        }
        List<Acked> all = Acked.read(acked);
        for (Acked one : all) {
            MessageExt message = stored.get(one.place());
            if (message == null) {
                findings.fail("acknowledged and not stored: " + one);
            } else {
                findings.equal(one.id, message.getMsgId(), "id at " + one.place());
                findings.equal(one.seq, Messages.seq(message), "sequence number at " + one.place());
            }
        }
        findings.note(stored.size() + " stored, " + all.size() + " acknowledged");
        consumer.shutdown();
    }

    private static String place(MessageQueue queue, long offset) {
        return Acked.place(queue.getTopic(), queue.getBrokerName(), queue.getQueueId(), offset);
    }
}
