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
        System.out.println(details() + program + ": " + (failures == 0 ? "ok" : failures + " failures") + " in " + elapsedMs + " ms");
        return failures;
    }

    /** The same as one of several checks in a program, in one piece, the details below the name; whether it held. */
    synchronized boolean reportCheck(long elapsedMs) {
        System.out.print("check " + (failures == 0 ? "ok " : "FAILED ") + program + " in " + elapsedMs + " ms\n" + details());
        return failures == 0;
    }

    private String details() {
        StringBuilder out = new StringBuilder();
        for (String fact : facts) {
            out.append("  ").append(fact).append('\n');
        }
        for (String line : shown) {
            out.append("  FAILED ").append(line).append('\n');
        }
        if (failures > shown.size()) {
            out.append("  FAILED and ").append(failures - shown.size()).append(" more\n");
        }
        return out.toString();
    }
}
