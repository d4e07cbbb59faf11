package modulet.tunnel;

import java.util.concurrent.TimeUnit;

/**
 * When to ask the controller which modules belong on this base: at the first connect, and as long as nobody has answered
 * again after each later connect, but no sooner than 5 s, 10 s, ... 5 min after the last time.
 */
final class Baseline {
    private static final long LONGEST = TimeUnit.MINUTES.toNanos(5);

    private boolean wanted;
    private boolean everAsked;
    private boolean answered;
    private long askedAt;
    private long pause = TimeUnit.SECONDS.toNanos(5);

    synchronized void connected() {
        wanted = !answered;
    }

    synchronized void answered() {
        answered = true;
        wanted = false;
    }

    synchronized boolean due(long now) {
        return wanted && (!everAsked || now - askedAt >= pause);
    }

    synchronized void asked(long now) {
        pause = everAsked ? Math.min(2 * pause, LONGEST) : pause;
        wanted = false;
        everAsked = true;
        askedAt = now;
    }

    /** The time at which due() may turn true, or the given one. */
    synchronized long nextLook(long otherwise) {
        return wanted && everAsked ? askedAt + pause : otherwise;
    }
}
