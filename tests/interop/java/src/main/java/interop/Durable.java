package interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Sends from {@code --threads} threads until the file {@code --until} appears, through any number of deaths of the broker
 * meanwhile, and writes each acknowledged message to the file {@code --acked} for {@link ReadBack}.
 *
 * <p>The client does not retry: a message whose send failed may or may not lie in the store, and its sequence number is
 * never used again. A push consumer of one group runs all the while; at the end it must have seen every acknowledged
 * message at least once (more than once is its right: offsets are committed every 5 s). A group beside it commits offsets
 * one after the other: after each death it finds none that is older than the last one acknowledged
 * (not checked with {@code --commits no}). {@code --route-ms}: how often clients look for brokers that are new or others.
 */
final class Durable {
    private static final int FAILURES_MAX = 1_000_000;
    private static final long RETRY_PAUSE_MS = 20;
    private static final long COMMIT_PAUSE_MS = 3;

    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final String acked;
    private final int threads;
    private final Path until;
    private final boolean checksCommits;
    private final int routeMs;
    private final long limitMs;
    private final AtomicInteger next = new AtomicInteger(1);
    private final AtomicInteger refused = new AtomicInteger();
    private final Set<String> seen = ConcurrentHashMap.newKeySet();
    private final AtomicInteger deliveries = new AtomicInteger();
    private long commits;
    private int interrupted;

    Durable(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("topic", "Durable");
        this.acked = options.text("acked");
        this.threads = options.number("threads", 4);
        this.until = Paths.get(options.text("until"));
        this.checksCommits = options.text("commits", "yes").equals("yes");
        this.routeMs = options.number("route-ms", Clients.ROUTE_MS);
        this.limitMs = options.number("limit-s", 120) * 1_000L;
    }

    void run() throws Exception {
        DefaultMQProducer producer = Clients.producer(namesrv, topic + "-producer", routeMs);
        producer.setRetryTimesWhenSendFailed(0);
        try (Acked.Log log = new Acked.Log(acked)) {
            log.add(Acked.of(0, Clients.sendFirst(producer, Messages.make(topic, 0))));
            DefaultMQPushConsumer consumer = startConsumer();
            long end = System.nanoTime() + limitMs * 1_000_000;
            List<Thread> senders = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                Thread sender = new Thread(() -> send(producer, log, end), "sender-" + i);
                sender.start();
                senders.add(sender);
            }
            Thread committer = new Thread(() -> commit(end), "committer");
            committer.start();
            for (Thread sender : senders) {
                sender.join();
            }
            committer.join();
            findings.check(Files.exists(until), "not told to end within " + limitMs + " ms");
            findings.note(log.lines() + " acknowledged, " + refused + " refused or lost on the way; " + commits + " commits, " + interrupted + " interrupted");
            verifySeen(Acked.read(acked));
            consumer.shutdown();
        }
        producer.shutdown();
    }

    private DefaultMQPushConsumer startConsumer() throws Exception {
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-consumer");
        consumer.setPollNameServerInterval(routeMs);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            deliveries.addAndGet(messages.size());
            messages.forEach(message -> seen.add(message.getMsgId()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private void send(DefaultMQProducer producer, Acked.Log log, long endNs) {
        while (!Files.exists(until) && System.nanoTime() - endNs < 0 && refused.get() < FAILURES_MAX) {
            int seq = next.getAndIncrement();
            try {
                SendResult result = producer.send(Messages.make(topic, seq));
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    log.add(Acked.of(seq, result));
                } else {
                    refused.incrementAndGet();
                }
            } catch (Exception e) {
                refused.incrementAndGet();
                Await.pause(RETRY_PAUSE_MS);
            }
        }
    }

    /** Commits 1, 2, 3 … for one queue; when one is lost on the way, asks for what the broker has. */
    @SuppressWarnings("deprecation")
    private void commit(long endNs) {
        try {
            DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, topic + "-commits");
            MessageQueue queue = Clients.queues(consumer, topic).get(0);
            Clients.commit(consumer, queue, 1);
            long acknowledged = 1;
            while (!Files.exists(until) && System.nanoTime() - endNs < 0) {
                try {
                    consumer.getOffsetStore().updateConsumeOffsetToBroker(queue, acknowledged + 1, false);
                    acknowledged++;
                    commits++;
                } catch (Exception e) {
                    interrupted++;
                    long found = committed(consumer, queue);
                    findings.check(!checksCommits || found == acknowledged || found == acknowledged + 1, "committed " + found + " after a death, acknowledged " + acknowledged);
                    acknowledged = Math.max(acknowledged, found);
                }
                Await.pause(COMMIT_PAUSE_MS);
            }
            consumer.shutdown();
        } catch (Exception e) {
            findings.fail("commits: " + e);
        }
    }

    @SuppressWarnings("deprecation")
    private static long committed(DefaultMQPullConsumer consumer, MessageQueue queue) throws Exception {
        long[] offset = {-1};
        Await.until(Await.LONG_MS, () -> {
            try {
                offset[0] = consumer.fetchConsumeOffset(queue, true);
            } catch (Exception e) {
                Await.pause(RETRY_PAUSE_MS);
            }
            return offset[0] >= 0;
        });
        return offset[0];
    }

    private void verifySeen(List<Acked> all) throws Exception {
        boolean complete = Await.until(Await.LONG_MS, () -> all.stream().allMatch(one -> seen.contains(one.id)));
        if (!complete) {
            all.stream().filter(one -> !seen.contains(one.id)).forEach(one -> findings.fail("acknowledged and never delivered: " + one));
        }
        findings.note(deliveries + " deliveries of " + seen.size() + " messages");
    }
}
