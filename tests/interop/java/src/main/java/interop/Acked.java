package interop;

import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageQueue;

/** One acknowledged message: what the broker promised to keep, one line of the file that outlives it. */
final class Acked {
    final String topic;
    final String broker;
    final int seq;
    final int queue;
    final long offset;
    final String id;

    Acked(String topic, String broker, int seq, int queue, long offset, String id) {
        this.topic = topic;
        this.broker = broker;
        this.seq = seq;
        this.queue = queue;
        this.offset = offset;
        this.id = id;
    }

    static Acked of(int seq, SendResult result) {
        MessageQueue queue = result.getMessageQueue();
        return new Acked(queue.getTopic(), queue.getBrokerName(), seq, queue.getQueueId(), result.getQueueOffset(), result.getMsgId());
    }

    static String place(String topic, String broker, int queue, long offset) {
        return topic + " " + broker + " " + queue + " " + offset;
    }

    /** The place in a store that only this message may take. */
    String place() {
        return place(topic, broker, queue, offset);
    }

    @Override
    public String toString() {
        return place() + " " + id + " " + seq;
    }

    static List<Acked> read(String file) throws IOException {
        List<Acked> all = new ArrayList<>();
        for (String line : Files.readAllLines(Paths.get(file))) {
            String[] words = line.split(" ");
            all.add(new Acked(words[0], words[1], Integer.parseInt(words[5]), Integer.parseInt(words[2]), Long.parseLong(words[3]), words[4]));
        }
        return all;
    }

    /** Appends lines, each flushed before {@link #add} returns: whoever watches the file sees what was acknowledged. */
    static final class Log implements AutoCloseable {
        private final BufferedWriter out;
        private int lines;

        Log(String file) throws IOException {
            Path path = Paths.get(file);
            out = Files.newBufferedWriter(path, StandardCharsets.UTF_8);
        }

        synchronized int add(Acked acked) throws IOException {
            out.write(acked.toString());
            out.write('\n');
            out.flush();
            return ++lines;
        }

        synchronized int lines() {
            return lines;
        }

        @Override
        public synchronized void close() throws IOException {
            out.close();
        }
    }
}
