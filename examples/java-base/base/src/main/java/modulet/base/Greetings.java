package modulet.base;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The greetings of all modules that run here, each under its module's class loader: two versions of one module have the
 * same classes by name, and only the loader tells them apart.
 */
public final class Greetings {
    private static final Map<ClassLoader, Greeting> ALL = new ConcurrentHashMap<>();

    private Greetings() {}

    public static void add(Greeting greeting) {
        ALL.put(greeting.getClass().getClassLoader(), greeting);
    }

    /** Must be called when the module stops, or its classes are kept for ever. */
    public static void remove(Greeting greeting) {
        ALL.remove(greeting.getClass().getClassLoader(), greeting);
    }

    static Greeting of(ClassLoader module) {
        return ALL.get(module);
    }
}
