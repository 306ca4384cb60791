package interop;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Stock clients with stock settings; what differs from them is named here. */
final class Clients {
    private static final int PULL_BATCH = 32;
    private static final long RETRY_PAUSE_MS = 100;
    private static final int HEARTBEAT_MS = 3_000;
    private static final long SHUTDOWN_MS = 10_000;
    /** The client's default. */
    static final int ROUTE_MS = 30_000;

    /** Takes what {@link #readQueue} reads. */
    interface Reader {
        void accept(MessageExt message);
    }

    /** A way of sending one message. */
    interface Sending {
        SendResult send(Message message) throws Exception;
    }

    private Clients() {
    }

    static DefaultMQProducer producer(String namesrv, String group) throws MQClientException {
        return producer(namesrv, group, ROUTE_MS);
    }

    /** One that looks for brokers that are new or others every {@code routeMs}. */
    static DefaultMQProducer producer(String namesrv, String group, int routeMs) throws MQClientException {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setPollNameServerInterval(routeMs);
        producer.setNamesrvAddr(namesrv);
        // The default of 3 s is a budget for all tries together; a shared machine can stall longer than that.
        producer.setSendMsgTimeout(10_000);
        producer.start();
        return producer;
    }

    static DefaultMQPushConsumer pushConsumer(String namesrv, String group) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // A rebalance gives the subscription a new version and tells the brokers so by a heartbeat, which is left out when
        // the regular one is on its way just then. Until the next, by default 30 s later, every pull is answered with
        // SUBSCRIPTION_NOT_LATEST.
        consumer.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        // Else offsets are committed at shutdown while the last listeners are still on their way back.
        consumer.setAwaitTerminationMillisWhenShutdown(SHUTDOWN_MS);
        return consumer;
    }

    /** Takes what {@link #listen} is given; whether the message was consumed. */
    interface Listener {
        boolean consume(MessageExt message);
    }

    /** A listener out of order, a message at a time; what it does not consume comes again as the broker chooses. */
    static void listen(DefaultMQPushConsumer consumer, Listener listener) {
        listen(consumer, listener, 0);
    }

    /** The same, with a delay level for what is to come again: 0 leaves it to the broker, -1 declares the message dead. */
    static void listen(DefaultMQPushConsumer consumer, Listener listener, int level) {
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            context.setDelayLevelWhenNextConsume(level);
            boolean consumed = messages.stream().allMatch(listener::consume);
            return consumed ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
    }

    @SuppressWarnings("deprecation") // the only client that reads single offsets as it is told
    static DefaultMQPullConsumer pullConsumer(String namesrv, String group) throws MQClientException {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.start();
        return consumer;
    }

    /** Sends the first message of a topic that may not exist yet, to a server that may still be starting. */
    static SendResult sendFirst(DefaultMQProducer producer, Message message) throws Exception {
        return sendFirst(producer, message, producer::send);
    }

    /** The same, sent in a way of the caller's. */
    static SendResult sendFirst(DefaultMQProducer producer, Message message, Sending sending) throws Exception {
        Exception[] last = new Exception[1];
        SendResult[] result = new SendResult[1];
        boolean sent = Await.until(Await.LONG_MS, () -> {
            try {
                result[0] = sending.send(message);
                return result[0].getSendStatus() == SendStatus.SEND_OK;
            } catch (Exception e) {
                last[0] = e;
                Await.pause(RETRY_PAUSE_MS);
                return false;
            }
        });
        if (!sent) {
            throw new IllegalStateException("the first message of " + message.getTopic() + " was never taken", last[0]);
        }
        return result[0];
    }

    /** The queues of a topic in a fixed order, as soon as there is a route. */
    @SuppressWarnings("deprecation")
    static List<MessageQueue> queues(DefaultMQPullConsumer consumer, String topic) throws Exception {
        List<MessageQueue> queues = new ArrayList<>();
        Exception[] last = new Exception[1];
        boolean found = Await.until(Await.LONG_MS, () -> {
            try {
                Set<MessageQueue> set = consumer.fetchSubscribeMessageQueues(topic);
                queues.addAll(set);
                return !set.isEmpty();
            } catch (MQClientException e) {
                last[0] = e;
                Await.pause(RETRY_PAUSE_MS);
                return false;
            }
        });
        if (!found) {
            throw new IllegalStateException("no route for " + topic, last[0]);
        }
        Collections.sort(queues);
        return queues;
    }

    /** Reads a queue from its first to its last message; returns [min, max) as the broker told it. */
    @SuppressWarnings("deprecation")
    static long[] readQueue(DefaultMQPullConsumer consumer, MessageQueue queue, Reader reader) throws Exception {
        long next = 0;
        long min = -1;
        long end = System.nanoTime() + Await.LONG_MS * 1_000_000;
        while (true) {
            PullResult result = pull(consumer, queue, next, end);
            if (min < 0) {
                min = result.getMinOffset();
            }
            if (result.getPullStatus() == PullStatus.FOUND) {
                result.getMsgFoundList().forEach(reader::accept);
            }
            boolean atEnd = result.getNextBeginOffset() >= result.getMaxOffset();
            if (atEnd && result.getPullStatus() != PullStatus.OFFSET_ILLEGAL || result.getMaxOffset() == 0) {
                return new long[] {min, result.getMaxOffset()};
            }
            if (result.getPullStatus() == PullStatus.NO_NEW_MSG) {
                throw new IllegalStateException(queue + " at " + next + ": nothing new, yet max is " + result.getMaxOffset());
            }
            next = result.getNextBeginOffset();
        }
    }

    /** Commits an offset and waits for the broker's word; a new group is unknown to it until the client's first heartbeat. */
    @SuppressWarnings("deprecation")
    static void commit(DefaultMQPullConsumer consumer, MessageQueue queue, long offset) throws Exception {
        long end = System.nanoTime() + Await.LONG_MS * 1_000_000;
        while (true) {
            try {
                consumer.getOffsetStore().updateConsumeOffsetToBroker(queue, offset, false);
                return;
            } catch (Exception e) {
                if (System.nanoTime() - end > 0) {
                    throw e;
                }
                Await.pause(RETRY_PAUSE_MS);
            }
        }
    }

    /** One pull, tried again while the broker refuses (one that has just started does not yet know the group). */
    @SuppressWarnings("deprecation")
    private static PullResult pull(DefaultMQPullConsumer consumer, MessageQueue queue, long offset, long endNs) throws Exception {
        while (true) {
            try {
                return consumer.pull(queue, "*", offset, PULL_BATCH);
            } catch (Exception e) {
                if (System.nanoTime() - endNs > 0) {
                    throw e;
                }
                Await.pause(RETRY_PAUSE_MS);
            }
        }
    }
}
