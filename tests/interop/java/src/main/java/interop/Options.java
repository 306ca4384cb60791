package interop;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** {@code --name value} pairs; a missing one without a default is an error that names it. */
final class Options {
    private final Map<String, String> values = new HashMap<>();

    Options(List<String> words) {
        for (int i = 0; i < words.size(); i += 2) {
            String name = words.get(i);
            if (!name.startsWith("--") || i + 1 == words.size()) {
                throw new IllegalArgumentException("expected --name value, not " + name);
            }
            values.put(name.substring(2), words.get(i + 1));
        }
    }

    String text(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value;
    }

    String text(String name, String absent) {
        return values.getOrDefault(name, absent);
    }

    int number(String name, int absent) {
        String value = values.get(name);
        return value == null ? absent : Integer.parseInt(value);
    }
}
