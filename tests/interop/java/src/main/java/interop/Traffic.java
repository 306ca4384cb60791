package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Does everything a stock client can do, once each, so that what flows by can be recorded: sends of every kind, push
 * consumers in and out of order, retry, tag and SQL filters, pull and lite pull, queries, transactions, request and reply,
 * POP, and the answers that say no. It checks only that each step came about.
 */
final class Traffic {
    private final Findings findings;
    private final String namesrv;
    private final String topic;
    private final boolean pop;

    Traffic(Options options, Findings findings) {
        this.findings = findings;
        this.namesrv = options.text("namesrv");
        this.topic = options.text("prefix", "Traffic");
        // Needs a client of 5.x and JSON headers: the codes do not fit into the binary header's 16 bits.
        this.pop = options.text("pop", "no").equals("yes");
    }

    private interface Step {
        void run() throws Exception;
    }

    void run() throws Exception {
        DefaultMQProducer producer = Clients.producer(namesrv, topic + "-producer");
        List<SendResult> sent = new ArrayList<>();
        step("sends", () -> sends(producer, sent));
        step("push", () -> push(producer));
        step("orderly", this::orderly);
        step("sql", this::sql);
        step("pull", () -> pull(sent));
        step("refusals", this::refusals);
        step("lite pull", this::litePull);
        step("queries", () -> queries(producer, sent));
        step("transactions", this::transactions);
        step("request and reply", () -> requestReply(producer));
        if (pop) {
            step("pop", this::pop);
        }
        producer.shutdown();
    }

    private void step(String what, Step step) {
        long start = System.nanoTime();
        try {
            step.run();
        } catch (Exception e) {
            findings.fail(what + ": " + e);
        }
        findings.note(what + ": " + (System.nanoTime() - start) / 1_000_000 + " ms");
    }

    private void sends(DefaultMQProducer producer, List<SendResult> sent) throws Exception {
        sent.add(Clients.sendFirst(producer, Messages.make(topic, 0)));
        for (int seq = 1; seq < 8; seq++) {
            sent.add(producer.send(Messages.make(topic, seq)));
        }
        producer.sendOneway(Messages.make(topic, 8));
        producer.send(List.of(Messages.make(topic, 9), Messages.make(topic, 10), Messages.make(topic, 11)));
        producer.send(Messages.make(topic, 249)); // compressed
        Message delayed = Messages.make(topic, 12);
        delayed.setDelayTimeLevel(1);
        producer.send(delayed);
        Message plain = new Message(topic, "no keys, no tags".getBytes(StandardCharsets.UTF_8));
        producer.send(plain);
    }

    /** Two consumers of one group; one message is given back once and comes again. */
    private void push(DefaultMQProducer producer) throws Exception {
        AtomicInteger received = new AtomicInteger();
        AtomicInteger again = new AtomicInteger();
        Set<String> refused = ConcurrentHashMap.newKeySet();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-push");
            // The retry topic is taken up at a refresh of routes.
            consumer.setPollNameServerInterval(1_000);
            consumer.subscribe(topic, "tag0 || tag1 || tag3");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                received.addAndGet(messages.size());
                MessageExt first = messages.get(0);
                if (first.getReconsumeTimes() > 0) {
                    again.incrementAndGet();
                } else if (Messages.seq(first) == 1 && refused.add(first.getMsgId())) {
                    context.setDelayLevelWhenNextConsume(1);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            consumers.add(consumer);
        }
        findings.check(Await.until(Await.LONG_MS, () -> received.get() >= 8 && again.get() > 0), "push: " + received + " received, " + again + " again");
        // One that arrives while a pull is held.
        int before = received.get();
        producer.send(Messages.make(topic, 13));
        findings.check(Await.until(Await.LONG_MS, () -> received.get() > before), "push: a held pull was not answered");
        consumers.forEach(DefaultMQPushConsumer::shutdown);
    }

    private void orderly() throws Exception {
        AtomicInteger received = new AtomicInteger();
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-orderly");
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            received.addAndGet(messages.size());
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        findings.check(Await.until(Await.LONG_MS, () -> received.get() >= 12), "orderly: " + received + " received");
        consumer.shutdown();
    }

    private void sql() throws Exception {
        AtomicInteger received = new AtomicInteger();
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-sql");
        consumer.subscribe(topic, MessageSelector.bySql("seq > 3 AND TAGS IN ('tag0', 'tag1')"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            received.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        findings.check(Await.until(Await.LONG_MS, () -> received.get() >= 2), "sql: " + received + " received");
        consumer.shutdown();
    }

    @SuppressWarnings("deprecation")
    private void pull(List<SendResult> sent) throws Exception {
        DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, topic + "-pull");
        MessageQueue queue = sent.get(0).getMessageQueue();
        consumer.fetchConsumeOffset(queue, true);
        Clients.commit(consumer, queue, 1);
        findings.equal(1L, consumer.fetchConsumeOffset(queue, true), "committed offset");
        long min = consumer.minOffset(queue);
        long max = consumer.maxOffset(queue);
        findings.equal(0L, min, "min offset");
        findings.check(max > 0, "max offset");
        findings.equal(0L, consumer.searchOffset(queue, 0), "offset at time 0");
        findings.check(consumer.earliestMsgStoreTime(queue) > 0, "earliest store time");
        status(PullStatus.FOUND, consumer.pull(queue, "*", 0, 4));
        status(PullStatus.NO_MATCHED_MSG, consumer.pull(queue, "no-such-tag", 0, 4));
        status(PullStatus.NO_NEW_MSG, consumer.pull(queue, "*", max, 4));
        status(PullStatus.OFFSET_ILLEGAL, consumer.pull(queue, "*", max + 5, 4));
        consumer.setBrokerSuspendMaxTimeMillis(1_000);
        status(PullStatus.NO_NEW_MSG, consumer.pullBlockIfNotFound(queue, "*", max, 4));
        consumer.shutdown();
    }

    private void status(PullStatus expected, PullResult result) {
        findings.equal(expected, result.getPullStatus(), "pull status");
    }

    /** What a broker and a name server refuse. */
    @SuppressWarnings("deprecation")
    private void refusals() throws Exception {
        DefaultMQPullConsumer consumer = Clients.pullConsumer(namesrv, topic + "-pull");
        MessageQueue real = Clients.queues(consumer, topic).get(0);
        refused(() -> consumer.fetchSubscribeMessageQueues("NoSuchTopic"), "a route of a missing topic");
        refused(() -> consumer.pull(new MessageQueue("NoSuchTopic", real.getBrokerName(), 0), "*", 0, 1), "a pull of a missing topic");
        refused(() -> consumer.pull(new MessageQueue(topic, real.getBrokerName(), 99), "*", 0, 1), "a pull of a missing queue");
        refused(() -> consumer.viewMessage(topic, "7F00000100002A9F00000000FFFFFFFF"), "a missing message");
        consumer.shutdown();
    }

    private void refused(Step step, String what) {
        try {
            step.run();
            findings.fail(what + " was not refused");
        } catch (Exception e) {
            // As it should be.
        }
    }

    private void litePull() throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(topic + "-lite");
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.start();
        AtomicInteger received = new AtomicInteger();
        boolean enough = Await.until(Await.LONG_MS, () -> received.addAndGet(consumer.poll(200).size()) >= 12);
        findings.check(enough, "lite pull: " + received + " received");
        consumer.commitSync();
        consumer.shutdown();
    }

    private void queries(DefaultMQProducer producer, List<SendResult> sent) throws Exception {
        SendResult first = sent.get(0);
        findings.equal(first.getMsgId(), producer.viewMessage(topic, first.getOffsetMsgId()).getMsgId(), "message by offset id");
        Await.until(Await.LONG_MS, () -> {
            try {
                return producer.viewMessage(topic, first.getMsgId()) != null;
            } catch (Exception e) {
                return false;
            }
        });
        QueryResult byKey = producer.queryMessage(topic, "key-3", 8, 0, System.currentTimeMillis() + 60_000);
        findings.equal(1, byKey.getMessageList().size(), "messages of key-3");
        refused(() -> producer.queryMessage(topic, "no-such-key", 8, 0, System.currentTimeMillis()), "a query of a missing key");
    }

    private void transactions() throws Exception {
        AtomicInteger checks = new AtomicInteger();
        TransactionMQProducer producer = new TransactionMQProducer(topic + "-transactions");
        producer.setNamesrvAddr(namesrv);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object state) {
                return (LocalTransactionState) state;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                checks.incrementAndGet();
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        int seq = 100;
        for (LocalTransactionState state : LocalTransactionState.values()) {
            producer.sendMessageInTransaction(Messages.make(topic, seq++), state);
        }
        findings.check(Await.until(Await.LONG_MS, () -> checks.get() > 0), "no transaction was checked");
        producer.shutdown();
    }

    private void requestReply(DefaultMQProducer producer) throws Exception {
        String requests = topic + "-requests";
        DefaultMQProducer replier = Clients.producer(namesrv, topic + "-replier");
        Clients.sendFirst(producer, new Message(requests, "warm", new byte[] {1}));
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, requests + "-group");
        consumer.subscribe(requests, "request");
        AtomicInteger replied = new AtomicInteger();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                try {
                    replier.send(MessageUtil.createReplyMessage(message, "reply".getBytes(StandardCharsets.UTF_8)));
                    replied.incrementAndGet();
                } catch (Exception e) {
                    findings.fail("reply: " + e);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        Message reply = producer.request(new Message(requests, "request", "request".getBytes(StandardCharsets.UTF_8)), 30_000);
        findings.equal("reply", new String(reply.getBody(), StandardCharsets.UTF_8), "reply");
        // The reply reaches the asker before the replier hears that its send went well.
        Await.until(Await.LONG_MS, () -> replied.get() > 0);
        consumer.shutdown();
        replier.shutdown();
    }

    /** A push consumer that pops; by reflection, since clients of 4.9 cannot. The broker was told the mode before. */
    private void pop() throws Exception {
        AtomicInteger received = new AtomicInteger();
        DefaultMQPushConsumer consumer = Clients.pushConsumer(namesrv, topic + "-pop");
        DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(consumer, false);
        consumer.subscribe(topic, "*");
        AtomicInteger later = new AtomicInteger();
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            received.addAndGet(messages.size());
            return later.getAndIncrement() == 0 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        findings.check(Await.until(Await.LONG_MS, () -> received.get() >= 12), "pop: " + received + " received");
        consumer.shutdown();
    }
}
