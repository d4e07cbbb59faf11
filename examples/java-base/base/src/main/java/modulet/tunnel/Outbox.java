package modulet.tunnel;

import java.util.concurrent.BlockingDeque;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What waits to be published. It is bounded: in a long outage the oldest messages go first. */
final class Outbox {
    private static final Logger LOG = LoggerFactory.getLogger(Outbox.class);
    private static final int LIMIT = 1000;

    /** @param keep whether it is worth sending late; an answer about the state of an hour ago is not. */
    record Message(String topic, byte[] payload, boolean keep) {}

    /** Wakes the waiting reader; never sent. */
    private static final Message NOTHING = new Message("", new byte[0], false);

    private final BlockingDeque<Message> messages = new LinkedBlockingDeque<>(LIMIT);

    void add(Message message) {
        while (!messages.offerLast(message)) {
            Message oldest = messages.pollFirst();
            if (oldest != null) {
                LOG.warn("the outbox is full, dropped a message to {}", oldest.topic());
            }
        }
    }

    /** The message could not be sent: it is the first again. */
    void putBack(Message message) {
        if (!messages.offerFirst(message)) {
            LOG.warn("the outbox is full, dropped a message to {}", message.topic());
        }
    }

    void wake() {
        messages.offerLast(NOTHING);
    }

    /** Null when there is nothing within that time, or when woken. */
    Message next(long nanos) throws InterruptedException {
        Message message = messages.pollFirst(Math.max(0, nanos), TimeUnit.NANOSECONDS);
        return message == NOTHING ? null : message;
    }

    void forgetStale() {
        messages.removeIf(message -> !message.keep());
    }

    boolean isEmpty() {
        return messages.isEmpty();
    }
}
