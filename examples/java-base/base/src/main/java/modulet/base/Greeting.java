package modulet.base;

/** What a module offers to the base. The class comes from the base, so that both mean the same one. */
@FunctionalInterface
public interface Greeting {
    /** One line of text, made by the module's own code. */
    String greet();
}
