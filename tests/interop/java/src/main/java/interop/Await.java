package interop;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** Waiting for a condition with a bound, instead of sleeping for a guess. */
final class Await {
    /** Longer than any wait that a healthy broker and client need on a busy machine of two cores. */
    static final long LONG_MS = 60_000;
    private static final long POLL_NS = TimeUnit.MILLISECONDS.toNanos(5);

    /** Asked again and again. */
    interface Condition {
        boolean holds() throws Exception;
    }

    private Await() {
    }

    /** Whether {@code condition} held before {@code limitMs} had passed. */
    static boolean until(long limitMs, Condition condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(limitMs);
        while (!condition.holds()) {
            if (System.nanoTime() - end > 0) {
                return false;
            }
            LockSupport.parkNanos(POLL_NS);
        }
        return true;
    }

    /** Yields to other threads for about {@code ms}: the pause between two tries against a broker that is away. */
    static void pause(long ms) {
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(ms));
    }
}
