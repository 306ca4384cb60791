package interop;

import java.util.ArrayList;
import java.util.List;

/** What a program found wrong, and what it counted; shared by its threads. */
final class Findings {
    /** Enough to see a pattern; the count tells the rest. */
    private static final int SHOWN_MAX = 20;

    private final String program;
    private final List<String> shown = new ArrayList<>();
    private final List<String> facts = new ArrayList<>();
    private int failures;

    Findings(String program) {
        this.program = program;
    }

    synchronized void fail(String what) {
        failures++;
        if (shown.size() < SHOWN_MAX) {
            shown.add(what);
        }
    }

    void check(boolean holds, String otherwise) {
        if (!holds) {
            fail(otherwise);
        }
    }

    void equal(Object expected, Object got, String what) {
        if (expected == null ? got != null : !expected.equals(got)) {
            fail(what + ": expected " + expected + ", got " + got);
        }
    }

    /** A line for the reader that is neither good nor bad. */
    synchronized void note(String fact) {
        facts.add(fact);
    }

    synchronized int report(long elapsedMs) {
        for (String fact : facts) {
            System.out.println("  " + fact);
        }
        for (String line : shown) {
            System.out.println("  FAILED " + line);
        }
        if (failures > shown.size()) {
            System.out.println("  FAILED and " + (failures - shown.size()) + " more");
        }
        System.out.println(program + ": " + (failures == 0 ? "ok" : failures + " failures") + " in " + elapsedMs + " ms");
        return failures;
    }
}
