package modulet.modules;

/** Takes room: it is loaded again and again, each time under another name of the same length. */
final class Leaked0000000 {
    int add(int a, int b) {
        return a + b;
    }

    String say(String what) {
        return what == null ? "nothing" : what.trim();
    }

    long count(long[] numbers) {
        long sum = 0;
        for (long number : numbers) {
            sum += number;
        }
        return sum;
    }
}
