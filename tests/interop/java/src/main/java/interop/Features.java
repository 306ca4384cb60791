package interop;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Each thing that an application does with a stock client, checked for itself. All run at once, each on topics and groups
 * of its own, because most of their time is waiting: for delays, for time-outs, for a rebalance.
 *
 * <p>Prints {@code check ok NAME in MS ms} or {@code check FAILED NAME in MS ms} for each, with what was found below it.
 * {@code --only NAME} runs one, {@code --skip NAME,NAME} leaves some out.
 */
final class Features {
    /** What one of them needs: where the name server is, and names that nobody else uses. */
    static final class Scene {
        final String namesrv;
        final String topic;
        final Findings findings;

        Scene(String namesrv, String topic, Findings findings) {
            this.namesrv = namesrv;
            this.topic = topic;
            this.findings = findings;
        }
    }

    private interface Feature {
        void run(Scene scene) throws Exception;
    }

    private final Map<String, Feature> features = new LinkedHashMap<>();
    private final Options options;
    private final Findings findings;

    Features(Options options, Findings findings) {
        this.options = options;
        this.findings = findings;
        // The longest first.
        features.put("retry-growing", Retries::growing);
        features.put("retry-chosen", Retries::chosen);
        features.put("retry-orderly", Retries::orderly);
        features.put("order", scene -> new Order(scene).run());
        features.put("broadcast", Broadcast::run);
        features.put("delay", Delays::levels);
        features.put("request-reply", Replies::run);
        features.put("lite-pull-subscribe", LitePulls::subscribed);
        features.put("lite-pull-assign", LitePulls::assigned);
        features.put("pull", Pulls::run);
        features.put("offset-by-time", Pulls::byTime);
        features.put("consume-timestamp", Pulls::consumeTimestamp);
        features.put("oneway", Sends::oneway);
        features.put("keys-and-tags", Sends::keysAndTags);
        features.put("long-polling", Delays::longPolling);
        features.put("namespace", Sends::namespace);
        features.put("trace", Sends::trace);
        features.put("sql-refused", Pulls::sqlRefused);
        features.put("vip-channel", Sends::vipChannel);
        features.put("bodies", Bodies::accepted);
        features.put("refused-sends", Bodies::refused);
        if (AutoBatch.isKnown()) {
            features.put("auto-batch", AutoBatch::run);
        }
    }

    void run() throws Exception {
        String namesrv = options.text("namesrv");
        String prefix = options.text("prefix", "Features");
        String only = options.text("only", "");
        String skip = options.text("skip", "");
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<Boolean>> running = new ArrayList<>();
        for (Map.Entry<String, Feature> feature : features.entrySet()) {
            if (!java.util.Arrays.asList(skip.split(",")).contains(feature.getKey()) && (only.isEmpty() || only.equals(feature.getKey()))) {
                running.add(threads.submit(() -> one(feature.getKey(), feature.getValue(), namesrv, prefix)));
            }
        }
        int failed = 0;
        for (Future<Boolean> one : running) {
            failed += one.get() ? 0 : 1;
        }
        findings.equal(0, failed, "features that failed");
        findings.check(!running.isEmpty(), "no feature " + only);
    }

    private static boolean one(String name, Feature feature, String namesrv, String prefix) {
        Findings own = new Findings(name);
        long start = System.nanoTime();
        try {
            feature.run(new Scene(namesrv, prefix + "-" + name, own));
        } catch (Exception | Error e) {
            own.fail(e + " at " + e.getStackTrace()[0] + (e.getCause() == null ? "" : ", because of " + e.getCause()));
        }
        return own.reportCheck((System.nanoTime() - start) / 1_000_000);
    }
}
