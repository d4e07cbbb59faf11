package modulet.modules;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.locks.LockSupport;

/** Classes that stay when their module is gone, as with any thread that a module starts and does not stop. */
final class Leak extends ClassLoader {
    private Leak() {
        super(Leak.class.getClassLoader());
    }

    /** Loads that many classes, and has a thread keep them. */
    static void classes(int count) throws IOException {
        Leak kept = new Leak();
        try (InputStream in = Leak.class.getResourceAsStream("Leaked0000000.class")) {
            String code = new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
            for (int i = 1; i <= count; i++) {
                String name = String.format("Leaked%07d", i);
                byte[] copy = code.replace("Leaked0000000", name).getBytes(StandardCharsets.ISO_8859_1);
                kept.defineClass(null, copy, 0, copy.length);
            }
        }
        Thread keeper = new Thread(() -> {
            while (true) {
                LockSupport.park(kept);
            }
        }, "leak");
        keeper.setDaemon(true);
        keeper.start();
    }
}
