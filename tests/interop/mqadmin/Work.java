import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.consumer.DefaultMQPushConsumerImpl;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageQueue;

/** What the commands are about: producers and consumers with fixed names, messages that are the same on every run. */
final class Work {
    private static final long LIMIT_MS = 40_000;
    private static final long SETTLE_MS = 1_000;

    private final Map<String, String> values;
    private final Map<String, DefaultMQPushConsumer> consumers = new HashMap<>();
    private final Map<String, AtomicInteger> consumed = new HashMap<>();
    private DefaultMQProducer producer;
    private int sentCount;

    Work(Map<String, String> values) {
        this.values = values;
    }

    void run(List<String> words) throws Exception {
        switch (words.get(0)) {
            case "send":
                send(words.get(1), Integer.parseInt(words.get(2)), Integer.parseInt(words.get(3)), words.get(4), words.get(5));
                break;
            case "consume":
                consume(words.get(1), words.get(2), words.get(3), words.size() > 4 && words.get(4).equals("failing"));
                break;
            case "await":
                await(words.get(1), Integer.parseInt(words.get(2)));
                break;
            case "stop":
                consumers.remove(words.get(1)).shutdown();
                break;
            case "commit":
                commit(words.get(1), words.get(2), Long.parseLong(words.get(3)));
                break;
            case "time":
                values.put(words.get(1), Long.toString(System.currentTimeMillis()));
                break;
            case "sleep":
                Thread.sleep(Long.parseLong(words.get(1)));
                break;
            default:
                throw new IllegalArgumentException("no step " + words.get(0));
        }
    }

    /** {@code send TOPIC QUEUE COUNT TAG KEYS}: the ids of message n are left as id.KEYS-n and offsetId.KEYS-n. */
    private void send(String topic, int queue, int count, String tag, String keys) throws Exception {
        if (producer == null) {
            producer = new DefaultMQProducer("work-producer");
            producer.setNamesrvAddr(values.get("namesrv"));
            producer.setClientIP("127.0.0.1");
            producer.setInstanceName("work-producer");
            producer.setSendMsgTimeout(10_000);
            producer.start();
            // A first heartbeat and a first send each open a connection, and the later one closes the other's.
            producer.fetchPublishMessageQueues(topic);
            Thread.sleep(SETTLE_MS);
        }
        for (int n = 0; n < count; n++) {
            byte[] body = ("body of " + keys + "-" + n).getBytes(StandardCharsets.UTF_8);
            Message message = new Message(topic, tag, keys + "-" + n, body);
            // The client's own would hold the machine's address, and its length would go into every offset of the log.
            MessageAccessor.putProperty(message, MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX, String.format("7F0000011234565DDFF4%012X", ++sentCount));
            SendResult sent = producer.send(message, new MessageQueue(topic, "broker-a", queue));
            values.put("id." + keys + "-" + n, sent.getMsgId());
            values.put("offsetId." + keys + "-" + n, sent.getOffsetMsgId());
        }
    }

    /** {@code consume GROUP TOPIC EXPRESSION [failing]}: starts a push consumer, which stays. */
    private void consume(String group, String topic, String expression, boolean isFailing) throws Exception {
        AtomicInteger count = new AtomicInteger();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(values.get("namesrv"));
        consumer.setClientIP("127.0.0.1");
        consumer.setInstanceName(group);
        consumer.setPersistConsumerOffsetInterval(500);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        consumer.subscribe(topic, expression);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            count.addAndGet(messages.size());
            return isFailing ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        consumers.put(group, consumer);
        consumed.put(group, count);
    }

    /** {@code await GROUP COUNT}: until the consumer has seen that many messages, and committed so. */
    @SuppressWarnings("deprecation") // no other way to commit at once
    private void await(String group, int count) throws Exception {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(LIMIT_MS);
        while (consumed.get(group).get() < count) {
            if (System.nanoTime() - end > 0) {
                throw new IllegalStateException(group + " has seen " + consumed.get(group) + " messages, not " + count);
            }
            Thread.sleep(50);
        }
        DefaultMQPushConsumerImpl consumer = consumers.get(group).getDefaultMQPushConsumerImpl();
        // The listener has seen the last message before the client knows that it is done.
        while (consumer.getRebalanceImpl().getProcessQueueTable().values().stream().anyMatch(queue -> queue.getMsgCount().get() > 0)) {
            Thread.sleep(5);
        }
        consumer.persistConsumerOffset();
        Thread.sleep(200);
    }

    /** {@code commit GROUP TOPIC OFFSET}: a group that was there, committed that in each queue, and left. */
    @SuppressWarnings("deprecation") // the only client that commits single offsets as it is told
    private void commit(String group, String topic, long offset) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(values.get("namesrv"));
        consumer.setClientIP("127.0.0.1");
        consumer.setInstanceName(group);
        consumer.start();
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(LIMIT_MS);
        for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
            while (true) {
                try {
                    consumer.getOffsetStore().updateConsumeOffsetToBroker(queue, offset, false);
                    break;
                } catch (Exception e) {
                    // A new group is unknown to the broker until its first heartbeat.
                    if (System.nanoTime() - end > 0) {
                        throw e;
                    }
                    Thread.sleep(50);
                }
            }
        }
        // A heartbeat under way would bring the group back after it has left.
        Thread.sleep(SETTLE_MS);
        consumer.shutdown();
    }
}
