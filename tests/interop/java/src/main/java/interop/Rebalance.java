package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

/**
 * Consumers come to a group and leave it while messages are being sent.
 *
 * <p>Checked: a consumer that joins takes queues over within {@value #JOIN_MS} ms, its own start included, and one that
 * stays takes over those of one that left within {@code --takeover-ms}, which only a broker that notifies the group makes
 * possible (by itself a client looks every 20 s); every message is delivered at least once.
 */
final class Rebalance {
    private static final long JOIN_MS = 10_000;
    private static final int TAKEOVER_MS = 2_000;
    private static final long PAUSE_MS = 1;

    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final long takeoverMs;
    private final Set<String> sent = ConcurrentHashMap.newKeySet();
    private final Set<String> received = ConcurrentHashMap.newKeySet();

    Rebalance(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("prefix", "Rebalance");
        this.takeoverMs = options.number("takeover-ms", TAKEOVER_MS);
    }

    void run() throws Exception {
        DefaultMQProducer producer = Clients.producer(namesrv, topic + "-producer");
        sent.add(Clients.sendFirst(producer, Messages.make(topic, 0)).getMsgId());
        AtomicBoolean stop = new AtomicBoolean();
        Thread sender = new Thread(() -> send(producer, stop), "sender");
        sender.start();

        List<Member> members = new ArrayList<>();
        Member first = join(members);
        takesOver(JOIN_MS, "the first consumer takes all queues", () -> first.hasAllOf(4));
        Member second = join(members);
        takesOver(JOIN_MS, "a second consumer takes half of them", () -> second.hasAllOf(2));
        Member third = join(members);
        takesOver(JOIN_MS, "a third one takes its share", () -> third.hasAllOf(1));
        second.consumer.shutdown();
        forget(members);
        takesOver(takeoverMs, "two take over what the second had", () -> first.queues.size() + third.queues.size() == 4);
        first.consumer.shutdown();
        forget(members);
        takesOver(takeoverMs, "the third takes all when the first has left", () -> third.hasAllOf(4));

        stop.set(true);
        sender.join();
        findings.check(Await.until(Await.LONG_MS, () -> received.containsAll(sent)), "messages never delivered");
        third.consumer.shutdown();
        producer.shutdown();
        int deliveries = members.stream().mapToInt(member -> member.deliveries.size()).sum();
        findings.note(sent.size() + " sent, " + received.size() + " received, " + deliveries + " deliveries counted apart by consumer");
    }

    private void takesOver(long limitMs, String what, Await.Condition condition) throws Exception {
        long start = System.nanoTime();
        findings.check(Await.until(limitMs, condition), "not within " + limitMs + " ms: " + what);
        findings.note(what + ": " + (System.nanoTime() - start) / 1_000_000 + " ms");
    }

    private void forget(List<Member> members) {
        members.forEach(member -> member.queues.clear());
    }

    private Member join(List<Member> members) throws Exception {
        Member member = new Member();
        members.add(member);
        member.consumer.start();
        return member;
    }

    private void send(DefaultMQProducer producer, AtomicBoolean stop) {
        for (int seq = 1; !stop.get(); seq++) {
            try {
                sent.add(producer.send(Messages.make(topic, seq)).getMsgId());
            } catch (Exception e) {
                findings.fail("send " + seq + ": " + e);
            }
            Await.pause(PAUSE_MS);
        }
    }

    /** A consumer and the queues that it has received from. */
    private final class Member {
        final DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-group");
        final Map<Integer, Boolean> queues = new ConcurrentHashMap<>();
        final Set<String> deliveries = ConcurrentHashMap.newKeySet();

        Member() throws Exception {
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(message -> {
                    queues.put(message.getQueueId(), true);
                    deliveries.add(message.getMsgId());
                    received.add(message.getMsgId());
                });
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }

        boolean hasAllOf(int count) {
            return queues.size() >= count;
        }
    }
}
