package interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * One producer and a group of consumers that use all brokers of a cluster, and stay up while its servers come and go, until
 * the file {@code --until} appears.
 *
 * <p>Most messages go to {@code --topic} and, acknowledged, into the file {@code --acked} for {@link ReadBack}; every
 * {@value #DELAYED_EVERY}th goes delayed to the topic with {@code -delayed} behind its name; every {@value #FAILING_EVERY}th
 * is given back once by the consumer that gets it. The file {@code --status} tells a watcher every {@value #STATUS_MS} ms, as
 * words: for each broker the messages {@code acked}, {@code seen}, {@code delayed} and {@code retried} there, and whether the
 * {@code --queues} queues are {@code divided} among the members. At the end everything acknowledged must have been consumed,
 * and committed.
 */
final class Across {
    private static final int DELAYED_EVERY = 20;
    private static final int FAILING_EVERY = 20;
    private static final int FAILING_AT = 10;
    /** Five seconds. */
    private static final int DELAY_LEVEL = 2;
    /** One second: what is given back comes on the next level but two without it. */
    private static final int RETRY_LEVEL = 1;
    private static final long SEND_PAUSE_MS = 10;
    private static final long RETRY_PAUSE_MS = 50;
    private static final int STATUS_MS = 100;
    /** Clients look for a broker that is new, gone or another one this often, by default every 30 s. */
    private static final int ROUTE_MS = 1_000;
    private static final long END_MS = 90_000;

    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final String delayedTopic;
    private final String acked;
    private final Path until;
    private final Path status;
    private final int threads;
    private final int members;
    private final int queues;
    private final long limitMs;
    private final AtomicInteger next = new AtomicInteger();
    private final AtomicInteger refused = new AtomicInteger();
    private final AtomicInteger deliveries = new AtomicInteger();
    private final Map<String, Acked> promised = new ConcurrentHashMap<>();
    private final Map<String, String> delayed = new ConcurrentHashMap<>();
    /** Each message that was consumed, by the broker it was sent to. */
    private final Map<String, String> seen = new ConcurrentHashMap<>();
    private final Set<String> givenBack = ConcurrentHashMap.newKeySet();
    private final Map<String, String> retried = new ConcurrentHashMap<>();

    Across(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("topic", "Across");
        this.delayedTopic = topic + "-delayed";
        this.acked = options.text("acked");
        this.until = Paths.get(options.text("until"));
        this.status = Paths.get(options.text("status"));
        this.threads = options.number("threads", 4);
        this.members = options.number("members", 3);
        this.queues = options.number("queues", 8);
        this.limitMs = options.number("limit-s", 600) * 1_000L;
    }

    void run() throws Exception {
        long end = System.nanoTime() + limitMs * 1_000_000;
        List<DefaultMQPushConsumer> group = new ArrayList<>();
        for (int i = 0; i < members; i++) {
            group.add(join());
        }
        DefaultMQProducer producer = Clients.producer(namesrv, topic + "-producer", ROUTE_MS);
        // A message that was sent again could be stored twice.
        producer.setRetryTimesWhenSendFailed(0);
        try (Acked.Log log = new Acked.Log(acked)) {
            List<Thread> senders = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                Thread sender = new Thread(() -> send(producer, log, end), "sender-" + i);
                sender.start();
                senders.add(sender);
            }
            while (isGoing(end)) {
                tell(group);
                Await.pause(STATUS_MS);
            }
            for (Thread sender : senders) {
                sender.join();
            }
        }
        findings.check(Files.exists(until), "not told to end within " + limitMs + " ms");
        verifySeen();
        group.forEach(DefaultMQPushConsumer::shutdown);
        verifyCommitted();
        producer.shutdown();
        findings.note(promised.size() + " acknowledged, " + delayed.size() + " more delayed, " + refused + " refused or lost on the way, "
            + retried.size() + " of " + givenBack.size() + " given back came again, " + deliveries + " deliveries");
    }

    private boolean isGoing(long endNs) {
        return !Files.exists(until) && System.nanoTime() - endNs < 0;
    }

    private DefaultMQPushConsumer join() throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-group");
        consumer.setPollNameServerInterval(ROUTE_MS);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        consumer.subscribe(topic, "*");
        consumer.subscribe(delayedTopic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            context.setDelayLevelWhenNextConsume(RETRY_LEVEL);
            boolean consumed = messages.stream().allMatch(message -> consume(message, context.getMessageQueue().getBrokerName()));
            return consumed ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
        return consumer;
    }

    private boolean consume(MessageExt message, String broker) {
        deliveries.incrementAndGet();
        int seq = Messages.seq(message);
        if (message.getReconsumeTimes() > 0) {
            retried.put(message.getMsgId(), broker);
        } else if (seq % FAILING_EVERY == FAILING_AT && givenBack.add(message.getMsgId())) {
            return false;
        }
        Messages.verify(message, seq % DELAYED_EVERY == 0 ? delayedTopic : topic, findings);
        seen.put(message.getMsgId(), broker);
        return true;
    }

    private void send(DefaultMQProducer producer, Acked.Log log, long endNs) {
        while (isGoing(endNs)) {
            int seq = next.getAndIncrement();
            boolean isDelayed = seq % DELAYED_EVERY == 0;
            Message message = Messages.make(isDelayed ? delayedTopic : topic, seq);
            if (isDelayed) {
                message.setDelayTimeLevel(DELAY_LEVEL);
            }
            try {
                SendResult result = producer.send(message);
                if (result.getSendStatus() != SendStatus.SEND_OK) {
                    refused.incrementAndGet();
                } else if (isDelayed) {
                    // Its place is in the topic of delayed messages.
                    delayed.put(result.getMsgId(), result.getMessageQueue().getBrokerName());
                } else {
                    Acked one = Acked.of(seq, result);
                    promised.put(one.id, one);
                    log.add(one);
                }
                Await.pause(SEND_PAUSE_MS);
            } catch (Exception e) {
                refused.incrementAndGet();
                Await.pause(RETRY_PAUSE_MS);
            }
        }
    }

    /** Whether each queue belongs to one member, and nobody has too many. */
    private boolean isDivided(List<DefaultMQPushConsumer> group) {
        Set<MessageQueue> all = new HashSet<>();
        int least = queues;
        int most = 0;
        int sum = 0;
        for (DefaultMQPushConsumer member : group) {
            Set<MessageQueue> own = owned(member);
            least = Math.min(least, own.size());
            most = Math.max(most, own.size());
            sum += own.size();
            all.addAll(own);
        }
        return all.size() == queues && sum == queues && most - least <= 1;
    }

    @SuppressWarnings("deprecation") // no other way to see it
    private Set<MessageQueue> owned(DefaultMQPushConsumer member) {
        return member.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().entrySet().stream()
            .filter(entry -> entry.getKey().getTopic().equals(topic) && !entry.getValue().isDropped())
            .map(Map.Entry::getKey).collect(Collectors.toSet());
    }

    private void tell(List<DefaultMQPushConsumer> group) throws Exception {
        Map<String, Integer> counts = new TreeMap<>();
        promised.values().forEach(one -> counts.merge("acked " + one.broker, 1, Integer::sum));
        seen.values().forEach(broker -> counts.merge("seen " + broker, 1, Integer::sum));
        retried.values().forEach(broker -> counts.merge("retried " + broker, 1, Integer::sum));
        delayed.forEach((id, broker) -> counts.merge("delayed " + broker, seen.containsKey(id) ? 1 : 0, Integer::sum));
        counts.put("divided -", isDivided(group) ? 1 : 0);
        StringBuilder out = new StringBuilder();
        counts.forEach((name, count) -> out.append(name).append(' ').append(count).append('\n'));
        Path whole = status.resolveSibling(status.getFileName() + ".new");
        Files.writeString(whole, out);
        Files.move(whole, status, StandardCopyOption.ATOMIC_MOVE);
    }

    private void verifySeen() throws Exception {
        Set<String> all = new HashSet<>(promised.keySet());
        all.addAll(delayed.keySet());
        if (!Await.until(END_MS, () -> seen.keySet().containsAll(all))) {
            promised.values().stream().filter(one -> !seen.containsKey(one.id)).forEach(one -> findings.fail("acknowledged and never consumed: " + one));
            delayed.forEach((id, broker) -> findings.check(seen.containsKey(id), "delayed at " + broker + " and never consumed: " + id));
        }
        findings.check(!retried.isEmpty() && !delayed.isEmpty(), "nothing was given back, or nothing delayed");
    }

    @SuppressWarnings("deprecation") // the only client that reads single offsets as it is told
    private void verifyCommitted() throws Exception {
        DefaultMQPullConsumer reader = Clients.pullConsumer(namesrv, topic + "-group");
        for (String one : List.of(topic, delayedTopic)) {
            for (MessageQueue queue : Clients.queues(reader, one)) {
                long most = reader.maxOffset(queue);
                // A queue in which nothing lies has no offset.
                findings.equal(most, Math.max(0, reader.fetchConsumeOffset(queue, true)), "committed at the end in " + queue);
            }
        }
        reader.shutdown();
    }
}
