package interop;

import java.util.ArrayList;
import java.util.List;

/**
 * Runs one or more programs in this JVM, one after the other, separated by {@code --}: a JVM costs seconds, a program
 * often less.
 *
 * <p>{@code Main PROGRAM [--name value]… [-- PROGRAM [--name value]…]…}. Exit code 0: every check held; 1: at least one
 * did not, and standard output says which; 2: bad arguments. Client threads never keep the JVM alive.
 */
public final class Main {
    private Main() {
    }

    public static void main(String[] arguments) {
        int failures = 0;
        try {
            for (List<String> words : split(arguments)) {
                failures += run(words);
            }
        } catch (IllegalArgumentException e) {
            System.out.println("bad arguments: " + e.getMessage());
            exit(2);
        } catch (Exception | Error e) {
            e.printStackTrace(System.out);
            failures++;
        }
        exit(failures == 0 ? 0 : 1);
    }

    private static int run(List<String> words) throws Exception {
        String program = words.get(0);
        Options options = new Options(words.subList(1, words.size()));
        Findings findings = new Findings(program);
        long start = System.nanoTime();
        switch (program) {
            case "send-receive":
                new SendReceive(options, findings).run();
                break;
            case "features":
                new Features(options, findings).run();
                break;
            case "durable":
                new Durable(options, findings).run();
                break;
            case "across":
                new Across(options, findings).run();
                break;
            case "read-back":
                new ReadBack(options, findings).run();
                break;
            case "store-produce":
                new StoreServe(options, findings).produce();
                break;
            case "store-dump":
                new StoreServe(options, findings).dump();
                break;
            case "store-continue":
                new StoreServe(options, findings).consumeRest();
                break;
            case "rebalance":
                new Rebalance(options, findings).run();
                break;
            case "mixed":
                new Mixed(options, findings).run();
                break;
            case "compressed":
                new Compressed(options, findings).run();
                break;
            case "bench":
                new Bench(options).run();
                break;
            case "traffic":
                new Traffic(options, findings).run();
                break;
            default:
                throw new IllegalArgumentException("no program " + program);
        }
        return findings.report((System.nanoTime() - start) / 1_000_000);
    }

    private static List<List<String>> split(String[] arguments) {
        List<List<String>> programs = new ArrayList<>();
        List<String> words = new ArrayList<>();
        for (String argument : arguments) {
            if (argument.equals("--")) {
                programs.add(words);
                words = new ArrayList<>();
            } else {
                words.add(argument);
            }
        }
        programs.add(words);
        for (List<String> program : programs) {
            if (program.isEmpty()) {
                throw new IllegalArgumentException("a program's name is missing");
            }
        }
        return programs;
    }

    private static void exit(int code) {
        System.out.flush();
        // Not System.exit: shutdown hooks of a client whose broker is gone wait for time-outs.
        Runtime.getRuntime().halt(code);
    }
}
