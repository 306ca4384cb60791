import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs a script of {@code mqadmin} commands in one JVM, between the work they are about, and writes what each printed.
 *
 * <p>{@code Driver SCRIPT OUTPUT name=value…}. A line is {@code NAME: COMMAND ARGUMENT…} (recorded under its name),
 * {@code until REGEX: COMMAND ARGUMENT…} (run until it prints that; not recorded), or {@code do STEP ARGUMENT…} (a step of
 * {@link Work}). {@code ${name}} stands for a value given or left by a step. Exit code 0: the script was run to its end.
 */
public final class Driver {
    private static final long UNTIL_MS = 40_000;
    private static final long PAUSE_MS = 200;
    private static final long HURRY_MS = 20;
    private static final Pattern VALUE = Pattern.compile("\\$\\{([^}]+)}");

    private final Map<String, String> values = new TreeMap<>();
    private final StringBuilder recorded = new StringBuilder();
    private final PrintStream out = System.out;
    private final Work work;

    private Driver(List<String> pairs) {
        for (String pair : pairs) {
            values.put(pair.substring(0, pair.indexOf('=')), pair.substring(pair.indexOf('=') + 1));
        }
        work = new Work(values);
    }

    public static void main(String[] arguments) {
        int code = 1;
        try {
            hurry(Thread.currentThread());
            Driver driver = new Driver(Arrays.asList(arguments).subList(2, arguments.length));
            for (String line : Files.readAllLines(Path.of(arguments[0]))) {
                if (!line.isBlank() && !line.startsWith("#")) {
                    driver.run(line.trim());
                }
            }
            Files.writeString(Path.of(arguments[1]), driver.recorded);
            code = 0;
        } catch (Exception | Error e) {
            e.printStackTrace(System.out);
        }
        System.out.flush();
        // Not System.exit: shutdown hooks of clients whose broker is gone wait for time-outs.
        Runtime.getRuntime().halt(code);
    }

    /**
     * Wakes the threads that a client's shutdown waits for, up to three seconds each of a hundred times; only then, since
     * outside of a shutdown they may be talking to a broker.
     */
    private static void hurry(Thread main) {
        Thread waker = new Thread(() -> {
            Thread[] threads = new Thread[1_000];
            while (true) {
                int count = isShuttingDown(main) ? Thread.enumerate(threads) : 0;
                for (int i = 0; i < count; i++) {
                    if (threads[i].getName().startsWith("NettyEventExecutor")) {
                        threads[i].interrupt();
                    }
                }
                try {
                    Thread.sleep(HURRY_MS);
                } catch (InterruptedException e) {
                    return;
                }
            }
        });
        waker.setDaemon(true);
        waker.start();
    }

    private static boolean isShuttingDown(Thread main) {
        for (StackTraceElement frame : main.getStackTrace()) {
            if (frame.getClassName().endsWith(".ServiceThread") && frame.getMethodName().equals("shutdown")) {
                return true;
            }
        }
        return false;
    }

    private void run(String line) throws Exception {
        long start = System.nanoTime();
        if (line.startsWith("do ")) {
            work.run(words(line.substring(3)));
        } else {
            int colon = line.indexOf(": ");
            String name = line.substring(0, colon);
            String command = line.substring(colon + 2);
            if (name.startsWith("until ")) {
                until(Pattern.compile(fill(name.substring(6))), command);
            } else {
                String printed = print(words(command));
                recorded.append("=== ").append(name).append(": ").append(command).append('\n').append(printed);
                if (!printed.endsWith("\n")) {
                    recorded.append('\n');
                }
            }
        }
        out.println((System.nanoTime() - start) / 1_000_000 + " ms: " + line);
    }

    private void until(Pattern wanted, String command) throws Exception {
        long end = System.nanoTime() + UNTIL_MS * 1_000_000;
        while (true) {
            String printed = print(words(command));
            if (wanted.matcher(printed).find()) {
                return;
            }
            if (System.nanoTime() - end > 0) {
                throw new IllegalStateException(command + " never printed " + wanted + " but:\n" + printed);
            }
            Thread.sleep(PAUSE_MS);
        }
    }

    /** What a command prints to both standard streams; the frames of stack traces are left out. */
    private String print(List<String> words) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream captured = new PrintStream(bytes, true, StandardCharsets.UTF_8);
        PrintStream[] streams = {System.out, System.err};
        System.setOut(captured);
        System.setErr(captured);
        try {
            Tool.run(words.toArray(new String[0]));
        } finally {
            System.setOut(streams[0]);
            System.setErr(streams[1]);
        }
        StringBuilder kept = new StringBuilder();
        for (String line : bytes.toString(StandardCharsets.UTF_8).split("\n", -1)) {
            if (!line.startsWith("\tat ") && !line.startsWith("\t... ")) {
                kept.append(line).append('\n');
            }
        }
        return kept.substring(0, kept.length() - 1);
    }

    private List<String> words(String line) {
        List<String> words = new ArrayList<>();
        for (String word : line.trim().split(" +")) {
            words.add(fill(word));
        }
        return words;
    }

    private String fill(String text) {
        Matcher matcher = VALUE.matcher(text);
        StringBuilder filled = new StringBuilder();
        while (matcher.find()) {
            String value = values.get(matcher.group(1));
            if (value == null) {
                throw new IllegalArgumentException("nothing is called " + matcher.group(1));
            }
            matcher.appendReplacement(filled, Matcher.quoteReplacement(value));
        }
        return matcher.appendTail(filled).toString();
    }

    /** The commands as new ones each time: some keep the client of their last run. */
    private static final class Tool extends MQAdminStartup {
        static void run(String[] words) {
            SUB_COMMANDS.clear();
            main0(words, null);
        }
    }
}
